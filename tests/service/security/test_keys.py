"""Requests without a key: refused in the format of each protocol, without revealing keys."""

import base64
import hashlib
import http.client
import json
import re
import urllib.parse

import pytest
from fastapi.testclient import TestClient
from processes import run, serving

from gatewave.service.app import create_app
from gatewave.service.errors import KeyMissing, ScopeMissing, SettingsInvalid
from gatewave.service.http.paths import PUBLIC
from gatewave.service.security.exposure import refuse_exposure
from gatewave.service.security.keys import Keys, new_key, presented
from gatewave.service.settings import Settings

INFER, INFER_ENTRY = new_key("infer")
ADMIN, ADMIN_ENTRY = new_key("admin")
KEYS = f"{INFER_ENTRY}, {ADMIN_ENTRY}"
LOAD = "/v2/repository/models/mine/load"
SINC = {"activation": "sinc", "inputs": {"x": [0.5]}}
INFERENCE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [0.5]}]}


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded(settings):
    app = create_app(settings.model_copy(update={"keys": KEYS}))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


class TestKeys:
    @pytest.mark.parametrize("entries", [(INFER_ENTRY, ADMIN_ENTRY), (ADMIN_ENTRY, INFER_ENTRY)])
    def test_a_key_has_its_scope_wherever_it_stands(self, entries):
        keys = Keys.parse(",".join(entries))
        assert keys.scopes(INFER) == {"infer"}
        assert keys.scopes(ADMIN) == {"infer", "admin"}

    @pytest.mark.parametrize(
        "wrong",
        [None, "", INFER[:-1], INFER + "x", INFER_ENTRY, "\udcff"],
        ids=["none", "empty", "short", "long", "entry", "surrogate"],
    )
    def test_another_key_has_none(self, wrong):
        assert Keys.parse(KEYS).scopes(wrong) == set()

    def test_a_key_may_be_bytes_or_text(self):
        assert Keys.parse(KEYS).scopes(INFER.encode()) == {"infer"}

    @pytest.mark.parametrize("nothing", ["", " ", ",", " , "])
    def test_without_keys_everybody_may_infer_and_nobody_is_admin(self, nothing):
        keys = Keys.parse(nothing)
        assert not keys.required
        keys.require(None)
        with pytest.raises(ScopeMissing, match="no keys"):
            keys.require(None, "admin")

    def test_who_has_no_key_is_told_to_show_one(self):
        with pytest.raises(KeyMissing, match="missing"):
            Keys.parse(KEYS).require(None)
        with pytest.raises(KeyMissing, match="not known"):
            Keys.parse(KEYS).require("other")

    def test_a_key_that_may_not_is_told_what_could(self):
        with pytest.raises(ScopeMissing, match="scope admin, and this one is of scope infer"):
            Keys.parse(KEYS).require(INFER, "admin")

    def test_a_key_is_256_random_bits_and_the_entry_is_its_digest(self):
        key, entry = new_key("infer")
        assert key != new_key("infer")[0]
        assert len(base64.urlsafe_b64decode(key.removeprefix("gw_") + "=")) == 32
        assert entry == "infer:" + hashlib.sha256(key.encode()).hexdigest()

    @pytest.mark.parametrize(
        "wrong", ["infer", "infer:", f"root:{'0' * 64}", "infer:" + "g" * 64, f"{KEYS},{INFER}"]
    )
    def test_what_is_no_entry_is_named_by_its_place_and_not_repeated(self, wrong):
        with pytest.raises(ValueError, match=r"number \d is not") as caught:
            Keys.parse(wrong)
        assert INFER not in str(caught.value)
        assert "0" * 64 not in str(caught.value)

    @pytest.mark.parametrize(
        ("headers", "key"),
        [
            ([], None),
            ([(b"authorization", b"Bearer k")], b"k"),
            ([(b"authorization", b"bearer  k ")], b"k"),
            ([(b"x-api-key", b"k")], b"k"),
            ([(b"x-api-key", b"other"), (b"authorization", b"Bearer k")], b"k"),
            ([(b"authorization", b"Basic dTpw"), (b"x-api-key", b"k")], b"k"),
            ([(b"authorization", b"Basic dTpw")], None),
            ([(b"authorization", b"k")], None),
        ],
    )
    def test_a_key_is_found_where_it_is_sent(self, headers, key):
        assert presented(headers) == key


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_health_needs_no_key(guarded, path):
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/activations", "/activations/sinc", "/docs", "/openapi.json", "/metrics", "/nothing"),
        *("/livez/", "//livez", "/static-offline-docs/swagger-ui.css"),
    ],
)
def test_all_else_needs_one(guarded, path):
    refused = guarded.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["type"] == "urn:gatewave:problem:key-missing"


@pytest.mark.parametrize("path", ["/activate", "/activate/batch"])
def test_computing_needs_one(guarded, path):
    assert guarded.post(path, json=SINC).status_code == 401
    assert guarded.post(path, json=SINC, headers=bearer("other")).status_code == 401


@pytest.mark.parametrize("headers", [bearer(INFER), bearer(ADMIN), {"x-api-key": INFER}])
def test_whoever_has_one_is_answered(guarded, headers):
    assert guarded.post("/activate", json=SINC, headers=headers).status_code == 200
    answer = guarded.post("/v2/models/sinc/infer", json=INFERENCE, headers=headers)
    assert answer.status_code == 200


def test_the_inference_protocol_refuses_in_its_own_words(guarded):
    refused = guarded.post("/v2/models/sinc/infer", json=INFERENCE)
    assert refused.status_code == 401
    assert refused.json().keys() == {"error"}
    assert guarded.get("/v2").status_code == 401


@pytest.mark.parametrize("path", [LOAD, LOAD.replace("/load", "/unload")])
def test_to_change_what_is_served_needs_an_admin(guarded, path):
    assert guarded.post(path).status_code == 401
    assert guarded.post(path, headers=bearer(INFER)).status_code == 403
    assert guarded.post(path, headers=bearer(ADMIN)).status_code not in {401, 403}


def test_without_keys_nobody_may_change_what_is_served(client):
    refused = client.post(LOAD)
    assert refused.status_code == 403
    assert "no keys" in refused.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/livez", 200), ("GET", "/activations", 200), ("GET", "/metrics", 200)),
        *(("GET", "/nothing", 404), ("DELETE", "/activate", 405), ("HEAD", "/livez", 200)),
        *(("POST", "/activate", 200), ("POST", "/v2/models/sinc/infer", 200)),
        *(("POST", "/v2/models/none/infer", 404), ("POST", LOAD, 403)),
    ],
)
def test_every_answer_is_held_to_its_media_type_and_kept_nowhere(client, method, path, status):
    document = INFERENCE if path.startswith("/v2") else SINC
    answer = client.request(method, path, json=document if method == "POST" else None)
    assert answer.status_code == status
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("cache-control") == ["no-store"]


def test_what_may_be_kept_says_so_itself(client):
    plot = client.get("/activations/sinc/plot.svg")
    assert plot.headers.get_list("cache-control") == ["public, max-age=3600"]
    assert plot.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_may_run_its_own_scripts_and_no_others(client, path):
    page = client.get(path)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    for script in inline:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.count("sha256-") == len(inline) == (1 if path == "/docs" else 0)
    loaded = re.findall(r'(?:src|href)="(.*?)"', page.text)
    assert loaded
    assert all(address.startswith("/") for address in loaded)


def test_no_key_is_told_by_logs_or_answers(artifacts):
    keys = [INFER, ADMIN, "gw_this-is-a-key-that-is-not-known"]
    with serving(artifacts, GATEWAVE_KEYS=KEYS, GATEWAVE_LOG_LEVEL="debug") as server:
        address = urllib.parse.urlsplit(server.url)
        bodies = [_answers(address, headers) for k in keys for headers in _shown(k)]
        assert server.stop() == 0
        said = json.dumps([server.log(), bodies])
    assert "/activate" in said
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    assert [secret for secret in keys + digests if secret in said] == []


def _shown(key):
    return [bearer(key), {"x-api-key": key}, {"authorization": key}]


def _answers(address, headers):
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    bodies = []
    for path, body in (("/activate", b"{}"), ("/activate", b"["), ("/v2/models/x/infer", b"{}")):
        connection.request("POST", path, body, headers)
        bodies.append(connection.getresponse().read().decode())
    # What is no HTTP is answered by the server itself.
    connection.request("POST", LOAD, b"", headers | {"content-length": "x"})
    bodies.append(connection.getresponse().read().decode())
    connection.close()
    return bodies


def test_keys_that_cannot_be_read_are_refused_and_not_repeated():
    ended = run("serve", "--port", "0", GATEWAVE_KEYS=f"{INFER_ENTRY},{ADMIN}")
    assert ended.returncode == 2
    said = " ".join(ended.stderr.split())
    assert "keys: expected scope:sha256" in said
    assert "number 2" in said
    assert ADMIN not in said
    assert INFER_ENTRY not in said
    assert INFER_ENTRY not in repr(Settings(keys=KEYS))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_no_keys(host):
    refuse_exposure(host, keys=Keys(), allow_anonymous=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "nowhere.invalid"])  # noqa: S104
def test_others_need_keys_unless_it_is_meant_to_be_open(host):
    with pytest.raises(SettingsInvalid, match="gatewave key"):
        refuse_exposure(host, keys=Keys(), allow_anonymous=False)
    refuse_exposure(host, keys=Keys.parse(KEYS), allow_anonymous=False)
    refuse_exposure(host, keys=Keys(), allow_anonymous=True)


def test_a_service_without_keys_does_not_start_where_others_reach_it(artifacts):
    ended = run("serve", "--artifacts", artifacts, "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert ended.returncode == 2
    assert "GATEWAVE_ALLOW_ANONYMOUS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_container_is_reached_where_it_is_published(artifacts):
    everywhere = ("--host", "0.0.0.0")  # noqa: S104 - as in a container
    with serving(artifacts, *everywhere, GATEWAVE_PUBLISHED_HOST="127.0.0.1") as server:
        assert server.stop() == 0
    published = {"GATEWAVE_PUBLISHED_HOST": "192.0.2.1"}
    ended = run("serve", "--artifacts", artifacts, "--port", "0", **published)
    assert ended.returncode == 2
    assert "192.0.2.1" in ended.stderr


def test_the_command_makes_keys_that_the_service_takes():
    plain = run("key").stdout
    key, entry = re.search(r"(gw_\S+)\s.*GATEWAVE_KEYS=(\S+)", plain, re.DOTALL).groups()
    assert Keys.parse(entry).scopes(key) == {"infer"}
    made = json.loads(run("key", "--scope", "admin", "--json").stdout)
    assert Keys.parse(made["entry"]).scopes(made["key"]) == {"infer", "admin"}
    assert run("key", "--scope", "root").returncode == 2

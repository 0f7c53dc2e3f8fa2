"""Proxies with a path prefix: requests are answered with it and without it."""

import json
import re
import urllib.error
import urllib.request

import pytest
from processes import serving
from pydantic import ValidationError

from gatewave.service.http.middleware.root_path import under
from gatewave.service.security.keys import new_key
from gatewave.service.settings import Settings

ROOT = "/some/where"
SINC = {"activation": "sinc", "inputs": {"x": [0]}}
INFER = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0]}]}


@pytest.fixture(scope="module")
def ask(artifacts):
    """Return a function that sends a request to a service with a prefix."""
    key, entry = new_key("infer")
    with serving(artifacts, GATEWAVE_ROOT_PATH=ROOT, GATEWAVE_KEYS=entry) as server:

        def ask(path, document=None, headers=None):
            body = None if document is None else json.dumps(document).encode()
            headers = {"authorization": f"Bearer {key}"} if headers is None else headers
            headers["content-type"] = "application/json"
            request = urllib.request.Request(server.url + path, body, headers)  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read()

        yield ask


@pytest.mark.parametrize("prefix", [ROOT, ""])
def test_requests_are_answered_with_the_prefix_and_without(ask, prefix):
    assert ask(f"{prefix}/livez", headers={})[0] == 200
    assert ask(f"{prefix}/activations", headers={})[0] == 401
    assert json.loads(ask(f"{prefix}/activate", SINC)[1])["outputs"]["y"] == [1]
    assert ask(f"{prefix}/activate/batch", {"requests": [SINC]})[0] == 200
    status, answer = ask(f"{prefix}/v2/models/sinc/infer", INFER)
    assert (status, json.loads(answer)["outputs"][0]["data"]) == (200, [1])
    status, problem = ask(f"{prefix}/v2/models/none/infer", INFER)
    assert (status, list(json.loads(problem))) == (404, ["error"])
    assert ask(f"{prefix}/v2/repository/models/sinc/load", {})[0] == 403
    assert ask(f"{prefix}/nothing")[0] == 404
    assert ask(f"{ROOT}where/livez")[0] == 404


@pytest.mark.parametrize("prefix", [ROOT, ""])
def test_links_carry_the_prefix(ask, prefix):
    openapi = json.loads(ask(f"{prefix}/openapi.json")[1])
    assert openapi["servers"] == [{"url": ROOT}]
    hrefs = [each["href"] for each in json.loads(ask(f"{prefix}/activations")[1])["activations"]]
    page = ask(f"{prefix}/docs")[1].decode()
    assets = re.findall(r'(?:src|href|url)[=:] ?["\']([^"\']+)["\']', page)
    assert f"{ROOT}/openapi.json" in assets
    assert len(assets) >= 3
    for link in (*hrefs, *assets):
        assert link.startswith(f"{ROOT}/")
        assert ask(link)[0] == 200
        assert ask(link.removeprefix(ROOT))[0] == 200


def test_the_fast_path_sees_no_prefix():
    answer = under(ROOT, lambda path, *_: (path.encode(), b""))
    for path in ("/activate", f"{ROOT}/activate"):
        assert answer(path, [], b"", 0.0, 0.0, None) == (b"/activate", b"")


@pytest.mark.parametrize("wrong", ["gatewave", "/gatewave/", "/v2", "/activate/x", "/a b", "//"])
def test_a_prefix_that_is_wrong_is_refused(wrong):
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=wrong)

"""Encrypted connections, and rejection of files that do not match."""

import asyncio
import contextlib
import http.client
import signal
import socket
import ssl
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import run, serving

from gatewave.service.errors import SettingsInvalid
from gatewave.service.http.configuration import configuration
from gatewave.service.http.server import Server
from gatewave.service.security.keys import configured, new_key
from gatewave.service.settings import Settings
from gatewave.service.system.tls import context


@dataclass
class Signed:
    certificate: Path
    key: Path


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return _signed(folder, "authority", "-x509", "-addext", "basicConstraints=critical,CA:TRUE")


@pytest.fixture(scope="module")
def own(folder, authority):
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    return _signed(folder, "server", "-x509", *names, *_by(authority))


@pytest.fixture(scope="module")
def client(folder, authority):
    return _signed(folder, "client", "-x509", *_by(authority))


def _by(authority):
    return ("-CA", authority.certificate, "-CAkey", authority.key)


def _signed(folder, name, *options):
    made = Signed(folder / f"{name}.pem", folder / f"{name}.key")
    subject = ("-subj", f"/CN={name}", "-days", "2", "-nodes")
    algorithm = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl(*("req", *algorithm, *subject, *options), "-keyout", made.key, "-out", made.certificate)
    return made


def trusting(authority, client=None):
    trust = ssl.create_default_context(cafile=authority.certificate)
    if client is not None:
        trust.load_cert_chain(client.certificate, client.key)
    return trust


def ask(server, trust):
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPSConnection(
        address.hostname, address.port, timeout=30, context=trust
    )
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


def tls(own, **more):
    variables = {"TLS_CERTIFICATE": own.certificate, "TLS_KEY": own.key, **more}
    return {f"GATEWAVE_{name}": str(value) for name, value in variables.items()}


@pytest.fixture(scope="module")
def server(artifacts, own):
    with serving(artifacts, **tls(own)) as server:
        yield server


def test_it_answers_who_trusts_its_authority(server, authority):
    assert server.url.startswith("https://")
    assert ask(server, trusting(authority)) == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(server, ssl.create_default_context())


def test_what_is_not_encrypted_is_not_answered(server):
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as plain:
        plain.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(1000).startswith(b"HTTP")


def test_a_connection_that_begins_no_handshake_is_closed(own, monkeypatch):
    monkeypatch.setattr("gatewave.service.http.server.TLS_HANDSHAKE_SECONDS", 0.1)

    async def ended():
        encryption = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        encryption.load_cert_chain(own.certificate, own.key)
        config = configuration(None, encryption)
        config.load()
        server = Server(config, None, lambda: None)
        server.lifespan = config.lifespan_class(config)
        listener = socket.create_server(("127.0.0.1", 0))
        async with await server.listen(listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            with contextlib.suppress(ConnectionError):
                assert not await asyncio.wait_for(reader.read(), 30)
            writer.close()

    asyncio.run(ended())


# Deprecated it is: that it is refused is what is tested.
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_tls_1_2_is_the_least(server, authority):
    old, new = trusting(authority), trusting(authority)
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    assert ask(server, new) == 200
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert ask(server, old) == 200
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        ask(server, old)


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_need_a_certificate_where_an_authority_is_named(
    artifacts, own, authority, client, workers
):
    settings = tls(own, TLS_CLIENT_CA=authority.certificate, WORKERS=workers)
    with serving(artifacts, **settings) as server:
        assert ask(server, trusting(authority, client)) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(server, trusting(authority))
        assert server.stop() == 0


def test_files_that_do_not_fit_are_said(own, client, folder):
    nowhere, text, locked = folder / "nowhere.pem", folder / "text.pem", folder / "locked.key"
    text.write_text("a certificate")
    openssl("ec", "-in", own.key, "-aes256", "-passout", "pass:x", "-out", locked)
    fit = {"tls_certificate": own.certificate, "tls_key": own.key}
    for given, said in (
        ({"tls_certificate": nowhere}, f"tls_certificate {nowhere} cannot be read: No such file"),
        ({"tls_certificate": folder}, "cannot be read: Is a directory"),
        ({"tls_key": nowhere}, f"tls_key {nowhere} cannot be read"),
        ({"tls_key": client.key}, "key values mismatch"),
        ({"tls_key": locked}, "not encrypted"),
        ({"tls_certificate": text}, f"tls_certificate {text}"),
        ({"tls_client_ca": text}, f"tls_client_ca {text} cannot be used"),
        ({"tls_certificate": None}, "tls_key is of no use without tls_certificate"),
    ):
        with pytest.raises(SettingsInvalid) as caught:
            context(Settings(**fit | given))
        assert said in str(caught.value)
    assert context(Settings(**fit)).minimum_version == ssl.TLSVersion.TLSv1_2
    assert context(Settings()) is None


def test_a_key_may_stand_in_the_certificate_file(own, folder):
    both = folder / "both.pem"
    both.write_text(own.certificate.read_text() + own.key.read_text())
    assert context(Settings(tls_certificate=both)) is not None


def test_what_does_not_fit_ends_the_command_with_2(artifacts, own, client):
    ended = run("serve", "--port", "0", "--artifacts", artifacts, **tls(own, TLS_KEY=client.key))
    assert ended.returncode == 2
    assert "key values mismatch" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


@dataclass
class Party:
    """Certificate authority, with the server and client certificates that it signed."""

    authority: Signed
    server: Signed
    client: Signed


@pytest.fixture(scope="module")
def parties(folder):
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    made = []
    for turn in ("old", "new"):
        constraint = ("-addext", "basicConstraints=critical,CA:TRUE")
        authority = _signed(folder, f"{turn}-authority", "-x509", *constraint)
        server = _signed(folder, f"{turn}-server", "-x509", *names, *_by(authority))
        client = _signed(folder, f"{turn}-client", "-x509", *_by(authority))
        made.append(Party(authority, server, client))
    return made


def install(party, live, key):
    for name, source in (
        ("server.pem", party.server.certificate),
        ("server.key", party.server.key),
        ("ca.pem", party.authority.certificate),
    ):
        (live / name).write_bytes(source.read_bytes())
    (live / "keys").write_text(f"# who may call\n\n{key}  # the one\n")


def list_activations(connection, key):
    """Return the status of a request with ``key``."""
    connection.request("GET", "/activations", headers={"authorization": f"Bearer {key}"})
    with connection.getresponse() as response:
        response.read()
        return response.status


def connected(server, party):
    address = urllib.parse.urlsplit(server.url)
    trust = trusting(party.authority, party.client)
    return http.client.HTTPSConnection(address.hostname, address.port, timeout=30, context=trust)


def is_healthy(port, party):
    """Return True if a gRPC client with the certificates of ``party`` gets an answer."""
    files = (party.authority.certificate, party.client.key, party.client.certificate)
    credentials = grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            return stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == 1
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False


def status_of(server, party, key):
    """Return the status over a new connection; 0 if the handshake fails."""
    with contextlib.closing(connected(server, party)) as connection:
        try:
            return list_activations(connection, key)
        except (ssl.SSLError, ConnectionError):
            return 0


@pytest.fixture
def reloaded(artifacts, parties, tmp_path):
    """Serve the first party, then the second after SIGHUP; yield the earlier connection too."""
    old, new = parties
    own = Signed(tmp_path / "server.pem", tmp_path / "server.key")

    @contextlib.contextmanager
    def reload(keys, **more):
        install(old, tmp_path, keys[0][1])
        files = {"TLS_CLIENT_CA": tmp_path / "ca.pem", "KEYS_FILE": tmp_path / "keys"}
        with (
            serving(artifacts, **tls(own, **files, **more)) as server,
            contextlib.closing(connected(server, old)) as kept,
        ):
            assert list_activations(kept, keys[0][0]) == 200
            install(new, tmp_path, keys[1][1])
            server.process.send_signal(signal.SIGHUP)
            server.rpc = [each["message"] for each in server.log() if "gRPC" in each["message"]]
            for _ in range(more.get("WORKERS", 1)):
                server.await_log("keys and certificates were read again")
            yield server, kept

    return reload


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_reads_certificates_and_keys_again(reloaded, parties, tmp_path, workers):
    old, new = parties
    keys = new_key("infer"), new_key("infer")
    (gone, _), (key, _) = keys
    with reloaded(keys, WORKERS=workers) as (server, kept):
        assert list_activations(kept, gone) == 401
        assert list_activations(kept, key) == 200
        stranger = Party(new.authority, new.server, old.client)
        assert [status_of(server, each, key) for each in (new, old, stranger)] == [200, 0, 0]

        (tmp_path / "server.pem").write_text("half a certifi")
        server.process.send_signal(signal.SIGHUP)
        failed = server.await_log("reload failed; what was read before stays")
        assert str(tmp_path / "server.pem") in failed["reason"]
        assert status_of(server, new, key) == 200
        assert server.stop() == 0


def test_sighup_reads_certificates_of_grpc_again(reloaded, parties):
    old, new = parties
    with reloaded((new_key("infer"), new_key("infer")), GRPC_PORT=0) as (server, _):
        port = server.rpc[0].rpartition(":")[2]
        stranger = Party(new.authority, new.server, old.client)
        assert [is_healthy(port, each) for each in (new, old, stranger)] == [True, False, False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no keys"),
        ("# all of them\n", "holds no keys"),
        ("\ninfer:abc\n", "line 2: expected scope:sha256"),
        (None, "cannot be read: No such file"),
    ],
)
def test_an_invalid_keys_file_is_reported(tmp_path, content, said):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsInvalid, match=said) as refused:
        configured("", file)
    assert str(file) in str(refused.value)
    assert "abc" not in str(refused.value)

"""Connections are encrypted where there is a certificate; what does not fit is said at once."""

import http.client
import socket
import ssl
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import run, serving

from service.errors import SettingsInvalid
from service.settings import Settings
from service.tls import context


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
    ended = run("serve", "--artifacts", artifacts, **tls(own, TLS_KEY=client.key))
    assert ended.returncode == 2
    assert "key values mismatch" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr

"""GET /activations/{name}/certificate: only the certificate that the models name."""

import json
import shutil
from hashlib import sha256

import onnx
import pytest
from fastapi.testclient import TestClient

from gatewave.certificates import certificate_files, certification
from gatewave.certificates.document import KEY
from gatewave.certificates.runtimes import catalogue
from gatewave.graphs.errors import ModelError
from gatewave.models import ACTIVATIONS
from gatewave.service.activations.artifact import CERTIFICATE_KEY
from gatewave.service.app import create_app
from gatewave.service.settings import Settings

PATH = "/activations/sinc/certificate"


@pytest.fixture(scope="module")
def certificate():
    plan = certification.CertificationPlan(
        runtimes=[catalogue.find("reference")], graphs=["value"], dtypes=["float32"]
    )
    return certification.of_activation(ACTIVATIONS["sinc"], plan)


@pytest.fixture
def folder(artifacts, tmp_path):
    for path in artifacts.glob("sinc.value.float32*"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def get(folder):
    """Return a function that gets a path from a service of the folder in its current state."""

    def answer(path=PATH, **headers):
        settings = Settings(artifacts=folder, device="cpu", threads=1)
        with TestClient(create_app(settings)) as client:
            return client.get(path, headers=headers)

    return answer


@pytest.fixture
def certified(certificate, folder):
    certificate_files.write(certificate, folder)
    certificate_files.stamp(certificate, folder)


def test_both_rooms_write_the_same_key():
    assert KEY == CERTIFICATE_KEY


@pytest.mark.usefixtures("certified")
def test_it_is_the_one_that_the_models_name(get, folder, certificate):
    response = get()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == json.loads(certificate.to_json())
    for path in folder.glob("*.onnx"):
        named = {entry.key: entry.value for entry in onnx.load(path).metadata_props}[KEY]
        assert named == sha256(response.content).hexdigest()


@pytest.mark.usefixtures("certified")
def test_a_browser_gets_a_page(get):
    response = get(accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert response.headers["content-type"].startswith("text/html")
    assert "Certificate of sinc" in response.text
    assert get(accept="*/*").headers["content-type"] == "application/json"


def test_without_one_the_problem_says_how_to_make_it(get):
    response = get()
    assert response.status_code == 404
    assert "gatewave certify" in response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert get("/activations/nonsense/certificate").status_code == 404


@pytest.mark.usefixtures("certified")
def test_one_that_was_changed_is_not_shown(get, folder):
    path = folder / "sinc.certificate.json"
    path.write_text(path.read_text().replace('"exact"', '"differs"'))
    assert get().status_code == 404


@pytest.mark.usefixtures("certified")
def test_stamped_models_serve_as_before(get):
    assert get("/activations/sinc").json()["name"] == "sinc"


def test_a_model_that_is_not_the_certified_one_is_not_stamped(certificate, folder):
    path = folder / "sinc.value.float32.onnx"
    model = onnx.load(path)
    model.doc_string = "another"
    onnx.save(model, path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ModelError, match="is not the model that was certified"):
        certificate_files.stamp(certificate, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        certificate_files.stamp(certificate, folder)

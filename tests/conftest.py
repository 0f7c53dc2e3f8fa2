"""What several rooms' tests need: the artifacts, exported once a session."""

import pytest

from export import artifacts as export_artifacts
from models import ACTIVATIONS


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """The folder that `gatewave export` writes."""
    folder = tmp_path_factory.mktemp("exported") / "artifacts"
    export_artifacts.write(ACTIVATIONS.values(), folder, export_artifacts.Selection())
    return folder

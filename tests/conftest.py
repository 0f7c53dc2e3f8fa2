"""What several rooms' tests need: the artifacts, exported once a session."""

import hypothesis
import pytest

from export import artifacts as export_artifacts
from models import ACTIVATIONS

# The same examples on every run, however slow and busy the machine is.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """The folder that `gatewave export` writes."""
    folder = tmp_path_factory.mktemp("exported") / "artifacts"
    export_artifacts.write(ACTIVATIONS.values(), folder, export_artifacts.Selection())
    return folder

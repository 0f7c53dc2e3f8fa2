"""docs/architecture.md against the code: its paths exist, and it leaves out no folder."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:\w+/)+[\w.]*|\w+\.py)`", TEXT)))
ROOMS = (
    "certificates",
    "cli",
    "export",
    "graphs",
    "models",
    "native",
    "service",
    "src",
    "tests",
    "benchmarks",
    "deploy",
)
SERVICE = ROOT / "service"
MAX_TERMS = 25
MAX_FILES = 6


def folders(room):
    """Return the packages of ``room``, by their path in the repository."""
    packages = (path.parent for path in room.glob("**/__init__.py") if path.parent != room)
    return sorted(str(package.relative_to(ROOT)) for package in packages)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path):
    assert (ROOT / path).exists() or (SERVICE / path).exists(), path


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_line(room):
    assert re.search(rf"^{room}/\S*\s+\w", TEXT, re.MULTILINE), room


@pytest.mark.parametrize(
    "folder", [*folders(SERVICE), *folders(ROOT / "graphs"), *folders(ROOT / "certificates")]
)
def test_every_folder_has_a_line(folder):
    assert re.search(rf"^\s*{Path(folder).name}/\s+\w", TEXT, re.MULTILINE), folder


def test_the_service_has_few_files_at_its_top():
    assert len([*SERVICE.glob("*.py")]) <= MAX_FILES


def test_the_glossary_is_short():
    glossary = TEXT.partition("## Glossary")[2]
    assert 0 < len(re.findall(r"^\| \*\*", glossary, re.MULTILINE)) <= MAX_TERMS

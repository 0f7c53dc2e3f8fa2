"""Class names of the service are unique: one name has one meaning."""

import ast
from collections import defaultdict
from pathlib import Path

import gatewave.service

SERVICE = Path(gatewave.service.__file__).parent


def classes(file):
    tree = ast.parse(file.read_text())
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_class_names_are_unique():
    found = defaultdict(list)
    for file in sorted(SERVICE.rglob("*.py")):
        for name in classes(file):
            found[name].append(str(file.relative_to(SERVICE)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_few_files_lie_at_the_top():
    assert {file.name for file in SERVICE.glob("*.py")} == {
        *("__init__.py", "app.py", "errors.py", "quoting.py", "settings.py", "state.py"),
    }

"""Class names have one meaning across the rooms that share their concepts."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("cli", "export", "models")

EXCEPTIONS: dict[str, str] = {}
"""Names that two classes may share, each with the reason."""


def test_each_class_name_is_used_once():
    places = defaultdict(list)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    name = node.name.removeprefix("_")
                    places[name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert places
    shared = {name for name, found in places.items() if len(found) > 1}
    assert {name: places[name] for name in shared - {*EXCEPTIONS}} == {}
    assert {*EXCEPTIONS} <= shared

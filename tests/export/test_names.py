"""Names of classes and type aliases: one meaning across the packages that share their concepts."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("certificates", "cli", "export", "graphs", "models")

ALIAS = re.compile(r"_?[A-Z][a-z]\w*")

EXCEPTIONS: dict[str, str] = {}
"""Names that two types may share, each with its reason."""


def types(module):
    """Yield the classes of a module, nested ones included, and its type aliases."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
    assigned = (node.targets[0] for node in module.body if isinstance(node, ast.Assign))
    for target in assigned:
        if isinstance(target, ast.Name) and ALIAS.fullmatch(target.id):
            yield target.id, target.lineno


def test_each_type_name_is_used_once():
    places = defaultdict(list)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for name, line in types(ast.parse(path.read_text(encoding="utf-8"))):
                places[name.removeprefix("_")].append(f"{path.relative_to(ROOT)}:{line}")
    assert places
    shared = {name for name, found in places.items() if len(found) > 1}
    assert {name: places[name] for name in shared - {*EXCEPTIONS}} == {}
    assert {*EXCEPTIONS} <= shared

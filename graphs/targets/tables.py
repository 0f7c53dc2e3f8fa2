"""Probed tables of the nodes that runtime versions load: operators × element types × opsets.

A table is made by `gatewave.graphs.targets.probing` and never edited. Each row holds for some
versions and opsets, and lists the signatures (`gatewave.graphs.targets.signatures`) that were
loaded and those that were refused, as products: ``"float double|int32 int64"`` stands for four. A
signature in neither list was not tried, or was tried without an answer.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from gatewave.graphs.errors import TargetError
from gatewave.graphs.targets.ranges import Key, VersionRange, version_key
from gatewave.graphs.targets.signatures import Schema, SchemaPort, Signature, signature, standard

FOLDER = "probed"

Fate = Literal["loads", "refused"]
Identifier = tuple[str, str]

TOLD_APART: Mapping[Identifier, tuple[str, str]] = {
    ("", "Gelu"): ("approximate", "none"),
    ("", "GridSample"): ("mode", "linear"),
    ("", "Pad"): ("mode", "constant"),
    ("", "Resize"): ("mode", "nearest"),
    ("", "ScatterElements"): ("reduction", "none"),
    ("", "ScatterND"): ("reduction", "none"),
}
"""Attributes whose value selects the kernel, and their defaults.

A node with another value than the default has rows of its own, ``Resize[mode=cubic]``.
"""


RENAMED = {"bilinear": "linear", "bicubic": "cubic"}
"""Names of the modes of `GridSample` before opset 20."""

ALL_INPUTS = "[all inputs]"
"""Mark of rows for nodes that have optional inputs, of operators for which that matters."""


@dataclass(frozen=True)
class TableRow:
    """Probed results of an operator at some opsets."""

    opsets: VersionRange
    loads: frozenset[Signature]
    refused: frozenset[Signature]


@dataclass(frozen=True, eq=False)
class Table:
    """Probed results of one version of a runtime.

    Attributes:
        runtime: The runtime and its exact version, for display.
        exact: That version.
        version: The version by which rows are chosen.
        listed: The rows of all versions as the file has them, by operator, with the value of its
            attribute in `TOLD_APART`.
        schemas: Schemas of operators that ONNX does not define.
    """

    runtime: str
    exact: str
    version: Key
    listed: Mapping[str, Sequence[Mapping[str, Any]]]
    schemas: Mapping[str, Schema]
    _read: dict[str, tuple[TableRow, ...]] = field(default_factory=dict, init=False)

    def schema(self, identifier: Identifier, opset: int) -> Schema | None:
        return standard(identifier[1], opset, identifier[0]) or self.schemas.get(named(identifier))

    def fate(
        self,
        identifier: Identifier,
        opset: int,
        inputs: Sequence[str],
        *,
        stated: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> Fate | None:
        """Return the result for this operator and these element types; None if it was not tried.

        An input of a type that is not known, ``?``, matches any: then all that match must agree.
        """
        schema = self.schema(identifier, opset)
        if schema is None:
            return None
        name = named(identifier, attributes)
        wanted = signature(schema, inputs, stated)
        given = {index for index, kind in enumerate(inputs) if kind}
        needed = {index for index, port in enumerate(schema.inputs) if not port.optional}
        # Rows for all inputs are listed only if their results differ from those for required ones.
        full = self._fate(name + ALL_INPUTS, opset, wanted) if given - needed else None
        return full or self._fate(name, opset, wanted)

    def _fate(self, name: str, opset: int, wanted: Signature) -> Fate | None:
        row = next((row for row in self.rows(name) if opset in row.opsets), None)
        if row is None:
            return None
        fates: set[Fate] = set()
        if any(_matches(wanted, one) for one in row.loads):
            fates.add("loads")
        if any(_matches(wanted, one) for one in row.refused):
            fates.add("refused")
        # With an input of unknown type, both lists may match: then the result is not known.
        return fates.pop() if len(fates) == 1 else None

    def rows(self, name: str) -> tuple[TableRow, ...]:
        """Return the rows of an operator, which are read when they are first asked for."""
        if name not in self._read:
            ranges = [
                (VersionRange.parse(one["versions"]), one) for one in self.listed.get(name, ())
            ]
            self._read[name] = tuple(_row(one) for held, one in ranges if self.version in held)
        return self._read[name]


def _matches(wanted: Signature, one: Signature) -> bool:
    return len(wanted) == len(one) and all(w in ("?", o) for w, o in zip(wanted, one, strict=True))


def named(identifier: Identifier, attributes: Mapping[str, Any] | None = None) -> str:
    """Return the operator's name in a table, with the value of its attribute in `TOLD_APART`."""
    domain, name = identifier
    text = f"{domain}::{name}" if domain else name
    told = TOLD_APART.get(identifier)
    if told is not None and attributes:
        value = attributes.get(told[0], told[1])
        value = RENAMED.get(value, value)
        if value != told[1]:
            return f"{text}[{told[0]}={value}]"
    return text


def of(runtime: str, version: str) -> Table | None:
    """Return the table of this version; None without one."""
    document = _document(runtime)
    if document is None or version not in document["versions"]:
        return None
    return _table(runtime, version)


@functools.cache
def _table(runtime: str, version: str) -> Table:
    document = _document(runtime)
    if document is None:
        raise TargetError(f"there is no probed table of {runtime}")
    exact = document["versions"][version]
    schemas = {name: _schema(kept) for name, kept in document["schemas"].items()}
    title = f"{document['title']} {exact}"
    return Table(title, exact, version_key(version), document["operators"], schemas)


@functools.cache
def _document(runtime: str) -> dict[str, Any] | None:
    file = resources.files(__package__) / FOLDER / f"{runtime}.json"
    if not file.is_file():
        return None
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def _row(listed: Mapping[str, Any]) -> TableRow:
    return TableRow(
        VersionRange.parse(listed["opsets"]),
        frozenset(unpacked(listed.get("loads", ()))),
        frozenset(unpacked(listed.get("refused", ()))),
    )


def _schema(kept: Mapping[str, Any]) -> Schema:
    variadic = kept.get("variadic", False)
    last = len(kept["inputs"]) - 1
    ports = tuple(
        SchemaPort(kind, variadic=variadic and index == last)
        for index, kind in enumerate(kept["inputs"])
    )
    variables: dict[str, tuple[str, ...]] = dict.fromkeys(kept["variables"], ())
    return Schema(ports, tuple(map(SchemaPort, kept["outputs"])), variables)


def kept(schema: Schema) -> dict[str, Any]:
    """Return the part of ``schema`` that is needed to find the signature of a node."""
    return {
        "inputs": [port.kind for port in schema.inputs],
        "outputs": [port.kind for port in schema.outputs],
        "variables": [*schema.variables],
        **({"variadic": True} if schema.inputs and schema.inputs[-1].variadic else {}),
    }


def packed(signatures: Iterable[Signature]) -> list[str]:
    """Return ``signatures`` as products."""
    return ["|".join(" ".join(part) for part in product) for product in _products({*signatures})]


def _products(signatures: set[Signature]) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Group first elements that are followed by the same rests, and those again."""
    if signatures <= {()}:
        yield from [()] * bool(signatures)
        return
    rests: dict[str, set[Signature]] = defaultdict(set)
    for first, *rest in signatures:
        rests[first].add(tuple(rest))
    alike: dict[frozenset[Signature], list[str]] = defaultdict(list)
    for first in sorted(rests):
        alike[frozenset(rests[first])].append(first)
    for rest_set, firsts in sorted(alike.items(), key=lambda item: item[1]):
        for product in _products({*rest_set}):
            yield (tuple(firsts), *product)


def unpacked(products: Iterable[str]) -> Iterator[Signature]:
    """Yield the signatures that `packed` packed."""
    for product in products:
        parts = product.split("|") if product else []  # of an operator without type variables
        yield from itertools.product(*(part.split() for part in parts))

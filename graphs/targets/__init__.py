"""Capabilities of each runtime as data: one file per runtime, with evidence for every entry.

A target is a runtime in one version and with one provider: ``onnxruntime-1.31-cuda``. A name may
leave both out: ``onnxruntime`` is the newest version, with the first provider of its file.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from gatewave.graphs.errors import TargetError
from gatewave.graphs.targets import tables
from gatewave.graphs.targets.entries import (
    DEFAULTS,
    Defect,
    DefectName,
    Entry,
    OperatorEntry,
    TargetFile,
    TriedOperators,
)
from gatewave.graphs.targets.ranges import VersionRange, version_key
from gatewave.graphs.targets.tables import Table
from gatewave.graphs.targets.verdicts import REFUSED, RUNS, UNKNOWN, Live, NodeQuery, Verdict
from gatewave.models import DTYPES

__all__ = ["Asked", "Target", "TargetError", "find", "names", "runtimes"]

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Target:
    """Capabilities of a runtime in one version, with one provider.

    Attributes:
        name: Name on the command line.
        opsets: The versions of the standard operators that a model may import.
        ir: The versions of the file format.
        functions: True if model-local functions run.
        dtypes: The floating-point element types that it computes in at all.
        domains: The operator domains that it supports, besides the standard one.
        operators: Entries for operators; a named operator runs only where an entry says so.
        tried: Operators that ran at all opsets and element types with which they were tried.
        table: The probed table of this version, if there is one.
        live: The runtime itself, if it is installed.
        defects: Known failures although all operators are supported.
    """

    name: str
    opsets: VersionRange
    ir: VersionRange
    functions: bool
    dtypes: tuple[str, ...]
    domains: tuple[str, ...] = ()
    operators: tuple[OperatorEntry, ...] = ()
    defects: tuple[Defect, ...] = ()
    tried: tuple[TriedOperators, ...] = ()
    table: Table | None = None
    live: Live | None = None

    def runs(
        self,
        identifier: tuple[str, str],
        opset: int,
        dtype: str | None,
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Return true if the operator is not known to fail in a model that imports ``opset``.

        Args:
            identifier: Its domain and its name.
            opset: The version of that domain.
            dtype: The element type; ignored unless it is a floating one.
            attributes: The node's attributes that are numbers or words.
        """
        known = [entry for entry in self.operators if entry.identifier == identifier]
        if dtype in DTYPES and dtype not in self.dtypes:
            return False
        if not known:
            return self.knows(identifier)
        return any(_admits(entry, opset, dtype, attributes or {}) for entry in known)

    def verdict(self, asked: NodeQuery) -> Verdict:
        """Return the verdict for a node: the target runs it, refuses it, or it is not known.

        The table of its version takes precedence over the entries of its file.
        """
        fate = self._fate(asked)
        if fate is not None:
            return RUNS if fate == "loads" else REFUSED
        entries = [entry for entry in self.operators if entry.identifier == asked.identifier]
        # Operators that only move elements, such as Reshape, run in types that nothing computes in.
        if asked.dtype in DTYPES and asked.dtype not in self.dtypes and not asked.moves:
            return REFUSED
        if entries and (asked.dtype in DTYPES or not any(entry.dtypes for entry in entries)):
            runs = self.runs(asked.identifier, asked.opset, asked.dtype, asked.attributes)
            return RUNS if runs else REFUSED
        return RUNS if any(entry.holds_for(asked) for entry in self.tried) else UNKNOWN

    def _fate(self, asked: NodeQuery) -> tables.Fate | None:
        if self.table is None:
            return None
        return self.table.fate(
            asked.identifier,
            asked.opset,
            asked.inputs,
            stated=asked.stated,
            attributes=asked.attributes,
        )

    def knows(self, identifier: tuple[str, str]) -> bool:
        """Return true if the operator is named, or belongs to a domain that the target supports."""
        named = any(entry.identifier == identifier for entry in self.operators)
        return named or identifier[0] in ("", *self.domains)

    def runs_body(self, identifier: tuple[str, str]) -> bool:
        """Return true unless the operator's ONNX function body is known to fail."""
        return all(entry.body for entry in self.operators if entry.identifier == identifier)

    def defect(self, name: DefectName) -> Defect | None:
        return next((defect for defect in self.defects if defect.defect == name), None)


def _admits(
    entry: OperatorEntry, opset: int, dtype: str | None, attributes: Mapping[str, Any]
) -> bool:
    typed = dtype in entry.dtypes if dtype in DTYPES else bool(entry.dtypes)
    return (
        typed
        and opset in entry.opsets
        and all(
            attributes.get(name, DEFAULTS[name]) == value
            for name, value in entry.attributes.items()
        )
    )


@functools.cache
def runtimes() -> Mapping[str, TargetFile]:
    """Return the runtimes by their names, from the files beside this one.

    Raises:
        TargetError: A file does not follow the schema in `entries`.
    """
    files = (f for f in resources.files(__name__).iterdir() if f.name.endswith(".yaml"))
    parsed = (parse(f.read_text(encoding="utf-8"), f.name) for f in files)
    return {runtime.name: runtime for runtime in sorted(parsed, key=lambda r: r.name)}


def parse(text: str, name: str) -> TargetFile:
    """Return the runtime that ``text`` describes.

    Raises:
        TargetError: It is no YAML, or does not follow the schema; the message starts with ``name``.
    """
    try:
        return TargetFile.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise TargetError(f"{name}: {error}") from error


def names() -> tuple[str, ...]:
    """Return every name that `find` accepts."""
    return tuple(_named())


def find(name: str) -> Target:
    """Return the target called ``name``.

    Raises:
        TargetError: There is no such target; the message names similar ones, or all runtimes.
    """
    try:
        runtime, version, provider = _named()[name]
    except KeyError:
        raise TargetError(_unknown(name)) from None
    return _target(runtime, version, provider)


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.7)
    meant = f"; did you mean {', '.join(close)}?" if close else "."
    known = ", ".join(f"{r.name} ({', '.join(r.versions)})" for r in runtimes().values())
    return f"unknown target {name!r}{meant} Known, with their versions: this, {known}"


def _named() -> dict[str, tuple[TargetFile, str, str | None]]:
    return {name: choice for runtime in runtimes().values() for name, choice in _names_of(runtime)}


def _names_of(runtime: TargetFile) -> Iterator[tuple[str, tuple[TargetFile, str, str | None]]]:
    """Yield the names of ``runtime``; without version or provider, the newest and the first."""
    newest, provider = runtime.versions[-1], next(iter(runtime.providers), None)
    for version, given in itertools.product((None, *runtime.versions), (None, *runtime.providers)):
        words = [word for word in (runtime.name, version, given) if word]
        yield "-".join(words), (runtime, version or newest, given or provider)


def _target(runtime: TargetFile, version: str, provider: str | None) -> Target:
    def hold(entries: tuple[E, ...]) -> tuple[E, ...]:
        return tuple(e for e in entries if e.holds(version_key(version), provider))

    (opsets,) = hold(runtime.opsets)
    (functions,) = hold(runtime.functions)
    (types,) = hold(runtime.types)
    # An operator that only other versions have needs an entry, or it would pass for one that every
    # runtime has.
    elsewhere = {entry.identifier for entry in runtime.operators} - {
        entry.identifier for entry in hold(runtime.operators)
    }
    return Target(
        name="-".join(word for word in (runtime.name, version, provider) if word),
        tried=hold(runtime.tried),
        table=tables.of(runtime.name, version),
        opsets=opsets.opsets,
        ir=opsets.ir,
        functions=functions.run,
        dtypes=types.dtypes,
        domains=tuple(name for entry in hold(runtime.domains) for name in entry.domains),
        operators=(*hold(runtime.operators), *map(_nowhere, sorted(elsewhere))),
        defects=hold(runtime.defects),
    )


def _nowhere(identifier: tuple[str, str]) -> OperatorEntry:
    name = "::".join(part for part in identifier if part)
    return OperatorEntry(operator=name, dtypes=(), evidence="other versions")

"""Schema of a target's file: every entry names its evidence, and unknown keys are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from pydantic import Field, field_validator, model_validator

from gatewave.graphs.strict_model import StrictModel
from gatewave.graphs.targets.ranges import EVERY, Key, RangeField, version_key
from gatewave.graphs.targets.verdicts import NodeQuery
from gatewave.models import DTYPES, DType

DefectName = Literal[
    "alpha-ignored",
    "branch-ranks",
    "condition-rank",
    "condition-size",
    "float64-as-float32",
    "float64-silu",
    "naive-sinc",
    "relu-clip",
    "squeeze-rank",
]
"""Defects: silently wrong results, or refusals although all operators exist."""


DEFAULTS: Mapping[str, float | str] = MappingProxyType({"approximate": "none", "alpha": 1.0})
"""Attributes that entries may distinguish, and their defaults."""


class Entry(StrictModel):
    """Fact that holds for some versions and providers.

    Attributes:
        versions: Versions for which it holds; all if absent.
        provider: Provider for which it holds; all if absent.
        evidence: Key of the evidence in the same file.
    """

    versions: RangeField = EVERY
    provider: str | None = None
    evidence: str

    def holds(self, version: Key, provider: str | None) -> bool:
        return version in self.versions and self.provider in (None, provider)


class Opsets(Entry):
    """The versions of the standard operators that a model may import, and of its file format."""

    opsets: RangeField
    ir: RangeField = EVERY


class Functions(Entry):
    """Support for model-local functions."""

    run: bool


class TypesEntry(Entry):
    """The element types in which floating-point tensors are computed at all."""

    dtypes: tuple[DType, ...]


class Domains(Entry):
    """Domains that the runtime has operators of, though not every one is named."""

    domains: tuple[str, ...]


class OperatorEntry(Entry):
    """Support for an operator. An operator with entries runs only where an entry allows it.

    Attributes:
        operator: Its name, with its domain unless that is the standard one.
        opsets: Versions of its domain that the model imports.
        dtypes: Element types with which it runs; an empty list means that it does not run.
        body: True if ONNX's function body for it runs instead.
        attributes: Values of its attributes in `DEFAULTS` for which the entry holds.
    """

    operator: str = Field(pattern=r"^([a-z0-9.]+::)?[A-Za-z]\w*$")
    opsets: RangeField = EVERY
    dtypes: tuple[DType, ...] = DTYPES
    body: bool = True
    attributes: Mapping[str, float | str] = Field(default_factory=dict)

    @field_validator("attributes")
    @classmethod
    def _told_apart(cls, value: Mapping[str, float | str]) -> Mapping[str, float | str]:
        if unknown := {*value} - {*DEFAULTS}:
            raise ValueError(f"expected attributes of {', '.join(DEFAULTS)}, got {unknown}")
        return value

    @property
    def identifier(self) -> tuple[str, str]:
        domain, _, name = self.operator.rpartition("::")
        return domain, name


class TriedOperators(Entry):
    """Operators that were tried and ran.

    Attributes:
        operators: Their names, as in `OperatorEntry`.
        opsets: Versions of their domain that the model imports.
        dtypes: Element types for which it holds.
    """

    operators: tuple[str, ...]
    opsets: RangeField
    dtypes: tuple[DType, ...]

    def holds_for(self, asked: NodeQuery) -> bool:
        name = "::".join(part for part in asked.identifier if part)
        return name in self.operators and asked.opset in self.opsets and asked.dtype in self.dtypes


class Defect(Entry):
    """Failure of models all of whose operators are supported.

    Attributes:
        defect: Name of a defect that `lower` knows.
        says: Description in one line.
    """

    defect: DefectName
    says: str


class TargetFile(StrictModel):
    """The file of a runtime: all of its versions and providers, each fact written once."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z]+)*$")
    title: str
    versions: tuple[str, ...] = Field(min_length=1)
    providers: tuple[str, ...] = ()
    opsets: tuple[Opsets, ...]
    functions: tuple[Functions, ...]
    types: tuple[TypesEntry, ...]
    domains: tuple[Domains, ...] = ()
    operators: tuple[OperatorEntry, ...] = ()
    defects: tuple[Defect, ...] = ()
    tried: tuple[TriedOperators, ...] = ()
    evidence: Mapping[str, str]

    def entries(self) -> Iterator[Entry]:
        for part in (self.opsets, self.functions, self.types):
            yield from part
        for more in (self.domains, self.operators, self.defects, self.tried):
            yield from more

    @model_validator(mode="after")
    def _whole(self) -> TargetFile:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        named = {entry.evidence for entry in self.entries()}
        for key in sorted(named - {*self.evidence}):
            yield f"there is no evidence {key!r}; there is {', '.join(self.evidence)}"
        for key in sorted({*self.evidence} - named):
            yield f"no entry rests on the evidence {key!r}"
        if unknown := {e.provider for e in self.entries()} - {None, *self.providers}:
            yield f"unknown providers {unknown}; there is {', '.join(self.providers) or 'none'}"
        for version in self.versions:
            for provider in self.providers or (None,):
                yield from self._gaps(version, provider)

    def _gaps(self, version: str, provider: str | None) -> Iterator[str]:
        parts: dict[str, Sequence[Entry]] = {
            "opsets": self.opsets,
            "functions": self.functions,
            "types": self.types,
        }
        for part, entries in parts.items():
            count = sum(entry.holds(version_key(version), provider) for entry in entries)
            if count != 1:
                yield f"{part}: {count} entries for version {version}, expected one"
        defects = Counter(d.defect for d in self.defects if d.holds(version_key(version), provider))
        for name, count in defects.items():
            if count > 1:
                yield f"defects: {count} entries {name} for version {version}, expected one"

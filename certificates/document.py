"""Certificates as JSON documents with a schema."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import onnx
from pydantic import ConfigDict, Field, WithJsonSchema

from gatewave.graphs.evidence import Evidence
from gatewave.graphs.strict_model import StrictModel

KEY = "ai.gatewave.certificate"
"""Key in a model's metadata of the SHA-256 of its certificate."""

Number = Annotated[
    float,
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}),
]
"""A float; JSON has no NaN and no infinities."""

CellVerdict = Literal["exact", "differs", "no baseline", "refused", "crashed"]
"""Verdicts, in order: within tolerance; beyond it; no baseline; refused with a message; no answer,
as the process ended."""

BaselineLevel = Literal["formula", "agreed", "checked", "single", "none"]
"""Support of a baseline: the record's formula; two implementations that agree on the whole model;
one implementation whose nodes
agree, one by one, with those of the other; one alone; or no baseline."""


class CertificatePart(StrictModel):
    """Part of a certificate; JSON has no NaN and no infinities, so that they are strings."""

    model_config = ConfigDict(ser_json_inf_nan="strings")


class Point(CertificatePart):
    """One element of an output, expected and computed.

    Attributes:
        inputs: Inputs of an activation, by name.
        case: Case of inputs, for a model.
        index: Position in the output, for a model.
        output: Name of the output.
        due: Expected value, to the precision of float64.
        got: Value from the runtime.
    """

    inputs: dict[str, Number] = Field(default_factory=dict)
    case: str = ""
    index: tuple[int, ...] = ()
    output: str
    due: Number
    got: Number


class Special(CertificatePart):
    """Special value, such as an infinity, at all its places among the inputs.

    Attributes:
        value: Value of the input.
        holds: True if all results were within tolerance.
        worst: Point with the largest error if one was not.
    """

    value: Number
    holds: bool
    worst: Point | None = None


class Shaped(CertificatePart):
    """Result for tensors of another shape than the vector of all samples.

    Attributes:
        shape: Shape of all inputs.
        verdict: Result of the comparison in that shape.
        why: Reason, unless the results are exact.
    """

    shape: tuple[int, ...]
    verdict: CellVerdict
    why: str = ""


class Tried(CertificatePart):
    """Result for one case of inputs of a user's model, such as infinities or subnormals.

    Attributes:
        name: Kind and sizes of the inputs.
        verdict: Result of the comparison.
        used: Largest error as a share of the tolerance.
    """

    name: str
    verdict: CellVerdict
    used: Number | None = None


class Cell(CertificatePart):
    """Result of one runtime for one model.

    Attributes:
        subject: The operator's stem, ``swiglu-linear``; of a user's model, the output's name.
        graph: ``value``, ``grad`` or ``vjp``; empty for a user's model.
        dtype: Element type of the tensors.
        form: ``function``, or ``decomposed`` where the runtime does not run functions.
        changes: Changes that `lower` made for this runtime.
        model: The SHA-256 of the model as it was run.
        elements: Number of compared elements.
        wrong: Number of elements beyond the tolerance.
        allowed: Tolerance, in words.
        verdict: Verdict on all elements and all shapes.
        why: Reason in words, unless the cell is exact.
        ulp: The largest error in units in the last place, where the absolute bound does not hold.
        absolute: Largest error divided by the scale of the bound.
        used: Largest error as a share of the tolerance.
        worst: Point of the largest error, unless the cell is exact.
        special: Special values, one by one.
        shapes: Other shapes.
        cases: Results of a user's model for each case of inputs.
        evidence: Level of evidence; absent if no result was compared, and in format 2.
    """

    subject: str
    graph: str
    dtype: str
    form: str
    changes: tuple[str, ...] = ()
    model: str = ""
    elements: int = 0
    wrong: int = 0
    allowed: str = ""
    verdict: CellVerdict
    why: str = ""
    ulp: Number | None = None
    absolute: Number | None = None
    used: Number | None = None
    worst: Point | None = None
    special: tuple[Special, ...] = ()
    shapes: tuple[Shaped, ...] = ()
    cases: tuple[Tried, ...] = ()
    # Left out if absent: documents of format 2 are written as they were read, with their digest.
    evidence: Evidence | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def place(self) -> tuple[str, str, str]:
        return self.subject, self.graph, self.dtype


class Row(CertificatePart):
    """One runtime.

    Attributes:
        runtime: Its name in the catalogue.
        title: Name for display.
        versions: Versions of its packages.
        why: Reason for having no cells.
        cells: Results by model.
    """

    runtime: str
    title: str
    versions: dict[str, str] = Field(default_factory=dict)
    why: str = ""
    cells: tuple[Cell, ...] = ()


class DifferingNode(CertificatePart):
    """A node that two implementations compute differently when they are given the same inputs.

    Attributes:
        node: Name of the node, or of its first output.
        operator: Name of the operator, with its domain unless that is ONNX's own.
        opset: The version of its domain.
        dtype: Element type of its inputs.
        says: The values of both where they differ most, and with which inputs.
        cases: The inputs with which it was seen.
    """

    node: str
    operator: str
    opset: int
    dtype: str
    says: str
    cases: tuple[str, ...]

    def words(self) -> str:
        return f"node {self.node} ({self.operator}, opset {self.opset}, {self.dtype})"


class Baseline(CertificatePart):
    """Origin of the values that results were compared with.

    Attributes:
        level: Support of the values.
        by: The implementations; the values are the first one's.
        versions: Versions of their packages.
        nodes: Number of nodes of the main graph that were compared one by one on equal inputs;
            0 if the implementations agree on the whole model.
        checked: Number of these with equal results.
        unchecked: Why others were not compared, by node.
        differing: Nodes with different results; an output that depends on one has no baseline.
        refused: Number of inputs that the second implementation refuses.
        refusal: Reason of the refusal.
    """

    level: BaselineLevel
    by: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    nodes: int = 0
    checked: int = 0
    unchecked: dict[str, str] = Field(default_factory=dict)
    differing: tuple[DifferingNode, ...] = ()
    refused: int = 0
    refusal: str = ""

    def words(self) -> str:
        """Describe the origin of the values in a phrase."""
        first, *others = self.by or ("the record's formula",)
        second = others[0] if others else ""
        counted = f"{self.checked} of {self.nodes} nodes"
        return {
            "formula": first,
            "agreed": f"{first} and {second}, which agree",
            "checked": f"{first}; {counted} were compared with {second}, each given the same "
            "inputs, and agree",
            "single": f"{first} alone; {counted} were compared with {second}",
            "none": f"none: {first} and {second} differ",
        }[self.level]


class Inputs(CertificatePart):
    """The caller's own inputs.

    Attributes:
        file: The name of their file.
        sha256: Digest of each array's type, shape and bytes, by name.
    """

    file: Annotated[str, Field(pattern=r"^[^/\x00]+$")]
    sha256: dict[str, str]


class Allowed(CertificatePart):
    """Tolerances in place of the defaults; see `gatewave verify`.

    Attributes:
        rtol: Bound relative to the number.
        atol: Bound relative to the scale of the tensor.
        ulp: Bound in units in the last place.
    """

    rtol: Annotated[float, Field(ge=0)] | None = None
    atol: Annotated[float, Field(ge=0)] | None = None
    ulp: Annotated[float, Field(ge=0)] = 0.0


class Certificate(CertificatePart):
    """Record of a run: models, machine, runtimes and results.

    Attributes:
        format: Version of this document's format; in version 2 cells have no evidence.
        name: Name of the activation, or of the model's file.
        kind: ``activation`` or ``model``.
        models: The SHA-256 of each model, without its entries about certificates, and of files with
            external data; by name.
        truth: Baseline of the comparison, in words.
        baseline: The same, for programs.
        tolerance: Allowed difference of a user's model from it, if not the default.
        inputs: The caller's own inputs, if they were used instead of generated ones.
        left_out: Outputs of a user's model that cannot be compared, with the reason.
        made: When, in ISO 8601.
        machine: Machine of the run.
        seed: Seed of the generated inputs.
        rows: The runtimes.
    """

    format: Literal[2, 3] = 3
    name: Annotated[str, Field(pattern=r"^[^/\x00]+$")]
    kind: Literal["activation", "model"]
    models: dict[str, str]
    truth: str
    baseline: Baseline
    tolerance: Allowed = Allowed()
    inputs: Inputs | None = None
    left_out: dict[str, str] = Field(default_factory=dict)
    made: str
    machine: str
    seed: Annotated[int, Field(ge=0)]
    rows: tuple[Row, ...]

    def cells(self) -> Iterator[tuple[Row, Cell]]:
        for row in self.rows:
            for cell in row.cells:
                yield row, cell

    @property
    def holds(self) -> bool:
        """Return true if there are cells and every one is exact."""
        verdicts = {cell.verdict for _, cell in self.cells()}
        return verdicts == {"exact"}

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"

    def digest(self) -> str:
        """Digest by which a model refers to its certificate."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def schema() -> dict[str, Any]:
    """Return the JSON schema of certificates."""
    return Certificate.model_json_schema(mode="serialization")


def model_digest(content: bytes) -> str:
    """Return the SHA-256 of a model, without the certificate that its metadata may name."""
    model = onnx.ModelProto.FromString(content)
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()

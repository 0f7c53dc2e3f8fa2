"""Reproduction of a certificate: certify again, and compare the two documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatewave.certificates import certification
from gatewave.certificates.certification import CertificationPlan
from gatewave.certificates.document import Baseline, Cell, Certificate, Row
from gatewave.certificates.runtimes.catalogue import find
from gatewave.graphs.errors import ModelError
from gatewave.graphs.files import npz
from gatewave.graphs.ops.signature import GRAPHS
from gatewave.models import ACTIVATIONS, DTYPES

MEASURED = {"ulp", "absolute", "used", "wrong", "worst", "why", "cases"}
"""Fields of a cell that measure errors; another version of a runtime may change them a little."""

LONGEST = 200
"""Longest text that is shown of a change, in characters."""

MAX_BYTES = 1 << 28
"""Limit on the size of a certificate; those of activations have some hundred kilobytes."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Difference between a certificate and its reproduction.

    Attributes:
        what: Name of the item.
        before: Value in the certificate.
        after: Value now.
        matters: True if a verdict, a model, the support of the baseline or the compared inputs
            changed; false for versions, for the sizes of errors and for the baseline's words.
    """

    what: str
    before: str
    after: str
    matters: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(path: Path) -> Certificate:
    """Return the certificate in ``path``.

    Raises:
        ModelError: The file cannot be read, or is no certificate.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: is too large for a certificate")
        return Certificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ModelError(f"{path}: is no certificate: {where}: {first['msg']}") from error


def check(path: Path, seconds: float) -> list[Deviation]:
    """Make the certificate in ``path`` again, and return the differences.

    The model that it certifies and its inputs must be beside it or in the current folder.

    Raises:
        ModelError: The file is not a certificate, or its model is missing.
        TargetError: It names an unknown runtime.
    """
    before = read(path)
    return list(_changes(before, _again(before, path.parent, seconds)))


def _again(certificate: Certificate, folder: Path, seconds: float) -> Certificate:
    cells = [cell for _, cell in certificate.cells()]
    if not cells:
        raise ModelError(f"the certificate of {certificate.name} has no results")
    plan = CertificationPlan(
        runtimes=[find(row.runtime) for row in certificate.rows],
        graphs=[graph for graph in GRAPHS if graph in {cell.graph for cell in cells}],
        dtypes=[dtype for dtype in DTYPES if dtype in {cell.dtype for cell in cells}],
        seed=certificate.seed,
        seconds=seconds,
        tolerance=certificate.tolerance,
    )
    if certificate.kind == "activation":
        if certificate.name not in ACTIVATIONS:
            raise ModelError(f"there is no activation {certificate.name!r}")
        return certification.of_activation(ACTIVATIONS[certificate.name], plan)
    return certification.of_model(
        _beside(folder, certificate.name), _with_inputs(plan, certificate, folder)
    )


def _beside(folder: Path, name: str) -> Path:
    """Return the file of that name in ``folder``, or else in the current folder."""
    places = [folder / name, Path(name)]
    return next((place for place in places if place.exists()), places[0])


def _with_inputs(
    plan: CertificationPlan, certificate: Certificate, folder: Path
) -> CertificationPlan:
    """Return ``plan`` with the inputs that the certificate names, if any."""
    if certificate.inputs is None:
        return plan
    path = _beside(folder, certificate.inputs.file)
    try:
        return replace(plan, inputs=path, arrays=npz.read(path))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: the inputs of the certificate cannot be read: {error}"
        ) from error


def _changes(before: Certificate, after: Certificate) -> Iterator[Deviation]:
    for name in sorted({*before.models, *after.models}):
        was, now = (found.models.get(name, "not there") for found in (before, after))
        if was != now:
            yield Deviation(f"the model {name}", was, now, matters=True)
    if before.truth != after.truth:
        # A later version may reword it; its data are compared next.
        yield Deviation("the baseline: words", before.truth, after.truth, matters=False)
    yield from _changes_of_baseline(before.baseline, after.baseline)
    if before.inputs != after.inputs:
        was, now = (_shown(found.inputs and found.inputs.sha256) for found in (before, after))
        yield Deviation("the inputs", was, now, matters=True)
    for name in sorted({*before.left_out, *after.left_out}):
        was, now = (found.left_out.get(name, "compared") for found in (before, after))
        if was != now:
            yield Deviation(f"output {name}", was, now, matters=True)
    for old, new in zip(before.rows, after.rows, strict=True):
        yield from _changes_of_row(old, new)


def _changes_of_baseline(before: Baseline, after: Baseline) -> Iterator[Deviation]:
    if before.versions != after.versions:
        was, now = (_shown(found.versions) for found in (before, after))
        yield Deviation("the baseline: versions", was, now, matters=False)
    support, supported = _support(before), _support(after)
    for name, value in support.items():
        if value != supported[name]:
            was, now = _shown(value), _shown(supported[name])
            yield Deviation(f"the baseline: {name}", was, now, matters=True)
    was, now = (", ".join(one.words() for one in found.differing) for found in (before, after))
    if was != now:
        yield Deviation("nodes without a baseline", was or "none", now or "none", matters=True)


def _support(baseline: Baseline) -> dict[str, str | int]:
    """Return what supports the values of a baseline, without reasons in words."""
    return {
        "level": baseline.level,
        "by": ", ".join(baseline.by),
        "nodes": baseline.nodes,
        "checked": baseline.checked,
        "unchecked": ", ".join(sorted(baseline.unchecked)),
    }


def _changes_of_row(old: Row, new: Row) -> Iterator[Deviation]:
    if (old.title, old.versions) != (new.title, new.versions):
        was, now = (f"{row.title} {_versions(row)}".strip() for row in (old, new))
        yield Deviation(f"{new.title}: versions", was, now, matters=False)
    before, after = ({cell.place: cell for cell in row.cells} for row in (old, new))
    for place in dict.fromkeys([*before, *after]):
        where = f"{new.title}: {' '.join(filter(None, place))}"
        yield from _changes_of_cell(where, before.get(place), after.get(place), new.why)


def _changes_of_cell(
    where: str, old: Cell | None, new: Cell | None, why: str
) -> Iterator[Deviation]:
    if old is None or new is None or old.verdict != new.verdict:
        was = "not there" if old is None else old.verdict
        now = f"not run: {why}" if new is None else new.verdict
        yield Deviation(where, was, now, matters=True)
        return
    # JSON writes NaN as a string, so that NaN equals NaN.
    before, after = (json.loads(cell.model_dump_json()) for cell in (old, new))
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if name == "evidence" and was is None:
            continue  # format 2 has none
        if was != now:
            matters = name not in MEASURED
            yield Deviation(f"{where}: {name}", _shown(was), _shown(now), matters=matters)


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in row.versions.items())


def _shown(found: Any) -> str:
    """Return a field of a cell as text, cut to `LONGEST` characters."""
    words = f"{found:.3g}" if isinstance(found, float) else str(found)
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"

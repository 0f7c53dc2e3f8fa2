"""A certificate made again, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from export.certificates import making
from export.certificates.document import Certificate, Row
from export.certificates.making import Plan
from export.errors import ModelError
from export.runtimes.catalogue import find
from export.signature import GRAPHS
from models import ACTIVATIONS, DTYPES

MOST_BYTES = 1 << 28
"""A certificate has some hundred kilobytes."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something that is not as the certificate says.

    Attributes:
        what: In words.
        before: What the certificate says.
        after: What is so now.
        matters: Whether a verdict or a model is another; versions and errors are not.
    """

    what: str
    before: str
    after: str
    matters: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(path: Path) -> Certificate:
    """The certificate in ``path``.

    Raises:
        ModelError: There is none.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ModelError(f"{path}: is too large for a certificate")
        return Certificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ModelError(f"{path}: is no certificate: {where}: {first['msg']}") from error


def check(path: Path, seconds: float) -> list[Changed]:
    """Make the certificate in ``path`` again, and say what came out otherwise.

    A model that it is of has to be beside it, or in the current folder.

    Raises:
        ModelError: It is no certificate, or its model is not there.
        TargetError: It names a runtime that is not known.
    """
    before = read(path)
    return list(_changes(before, _again(before, path.parent, seconds)))


def _again(certificate: Certificate, folder: Path, seconds: float) -> Certificate:
    cells = [cell for _, cell in certificate.cells()]
    plan = Plan(
        runtimes=[find(row.runtime) for row in certificate.rows],
        graphs=[graph for graph in GRAPHS if graph in {cell.graph for cell in cells}],
        dtypes=[dtype for dtype in DTYPES if dtype in {cell.dtype for cell in cells}],
        seed=certificate.seed,
        seconds=seconds,
    )
    if certificate.kind == "activation":
        if certificate.name not in ACTIVATIONS:
            raise ModelError(f"there is no activation {certificate.name!r}")
        return making.of_activation(ACTIVATIONS[certificate.name], plan)
    places = [folder / certificate.name, Path(certificate.name)]
    path = next((place for place in places if place.exists()), places[0])
    return making.of_model(path, plan)


def _changes(before: Certificate, after: Certificate) -> Iterator[Changed]:
    for name in before.models:
        if after.models.get(name) != before.models[name]:
            digest = after.models.get(name, "not there")
            yield Changed(f"the model {name}", before.models[name], digest, matters=True)
    for old, new in zip(before.rows, after.rows, strict=True):
        yield from _changes_of_row(old, new)


def _changes_of_row(old: Row, new: Row) -> Iterator[Changed]:
    if old.versions != new.versions:
        yield Changed(
            f"{old.title}: versions", _versions(old), _versions(new) or new.why, matters=False
        )
    cells = {cell.place: cell for cell in new.cells}
    for cell in old.cells:
        again = cells.get(cell.place)
        words = "not run" if again is None else again.verdict
        where = f"{old.title}: {' '.join(filter(None, cell.place))}"
        if words != cell.verdict:
            yield Changed(where, cell.verdict, words, matters=True)
        elif again is not None and (again.used, again.why) != (cell.used, cell.why):
            yield Changed(f"{where}: errors", _errors(cell), _errors(again), matters=False)


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in row.versions.items())


def _errors(cell: Any) -> str:
    return cell.why or f"{cell.used:.3g} of the tolerance"

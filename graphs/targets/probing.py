"""Command that probes ONNX Runtime and writes tables: `python -m gatewave.graphs.targets.probing`.

For each version a Python environment is made, with that wheel and NumPy. Every operator of ONNX and
of ONNX Runtime itself is put into models of one node, with each combination of element types that
its schema allows, at each opset that the version reads; each model is loaded, not run. The results
are written to the file that `tables` reads. Each version takes about a minute.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from gatewave.graphs import targets
from gatewave.graphs.processes.errors import Lost
from gatewave.graphs.targets import nodes, tables
from gatewave.graphs.targets.fates import fate_of
from gatewave.graphs.targets.probe_client import ProbeClient
from gatewave.graphs.targets.signatures import Schema, SchemaPort, Signature, standard
from gatewave.graphs.targets.tables import Fate, Identifier, named

CPU = "CPUExecutionProvider"
CONTRIB = "com.microsoft"
ML = "ai.onnx.ml"

VERSIONS = ("1.20.1", "1.22.1", "1.24.4", "1.27.0", "1.30.0", "1.31.1", "1.32.0")
"""The newest wheel of each version that the file of ONNX Runtime names."""

ML_OPSETS = range(1, 6)

STANDARD_FOR_OTHERS = 17
"""The opset of ONNX that a model imports beside another domain."""

Fates = dict[Signature, str]
Seen = dict[str, dict[int, Fates]]
"""Fates by operator and by opset."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gatewave.graphs.targets.probing", description=__doc__
    )
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="versions of the wheel")
    parser.add_argument("--environments", type=Path, default=Path(".venv-matrix"))
    parser.add_argument("--output", type=Path, default=None)
    given = parser.parse_args()
    output = given.output or Path(__file__).parent / tables.FOLDER / "onnxruntime.json"
    seen: dict[str, Seen] = {}
    schemas: dict[str, Schema] = {}
    for version in given.versions:
        python = _environment(given.environments / version, version)
        short = ".".join(version.split(".")[:2])
        seen[short], more = probed(python, targets.find(f"onnxruntime-{short}").opsets.most)
        schemas |= more
        print(version, sum(len(f) for by in seen[short].values() for f in by.values()))  # noqa: T201
    exact = {".".join(v.split(".")[:2]): v for v in given.versions}
    output.parent.mkdir(exist_ok=True)
    output.write_text(written(seen, exact, schemas), encoding="utf-8")


def _environment(folder: Path, version: str) -> Path:
    """Return the Python of the environment; make the environment if it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)  # noqa: S603
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", f"onnxruntime=={version}", "numpy"], check=True)  # noqa: S603
    return python


def probed(python: Path, most: tuple[int, ...] | None) -> tuple[Seen, dict[str, Schema]]:
    """Return the result for every model, and the schemas that only the runtime has."""
    with ProbeClient(python) as client:
        own = {(CONTRIB, s["name"]): _schema(s) for s in client.schemas()}
    newest = (most or (0,))[0]
    seen: Seen = defaultdict(lambda: defaultdict(dict))
    for trial, fate in _tried(python, trials(own, range(7, newest + 1))):
        # A crash or an unrelated error is no answer: the combination stays unknown (ADR 30).
        if fate:
            seen[trial.name][trial.opset].setdefault(trial.signature, fate)
    return seen, {named(identifier): schema for identifier, schema in own.items()}


def trials(own: Mapping[Identifier, Schema], opsets: Sequence[int]) -> Iterator[nodes.Trial]:
    names = sorted({(s.domain, s.name) for s in onnx.defs.get_all_schemas_with_history()})
    for identifier in (one for one in names if not one[0]):
        for opset in opsets:
            schema = standard(identifier[1], opset)
            if schema is not None:
                yield from nodes.trials(identifier, schema, opset, {"": opset})
    for identifier in (one for one in names if one[0] == ML):
        for opset in ML_OPSETS:
            schema = standard(identifier[1], opset, ML)
            if schema is not None:
                imports = {"": STANDARD_FOR_OTHERS, ML: opset}
                yield from nodes.trials(identifier, schema, opset, imports)
    for identifier, schema in sorted(own.items()):
        imports = {"": STANDARD_FOR_OTHERS, CONTRIB: 1}
        yield from nodes.trials(identifier, schema, 1, imports)


def _tried(
    python: Path, models: Iterable[nodes.Trial]
) -> Iterator[tuple[nodes.Trial, Fate | None]]:
    """Yield the result for each model; None if it crashes the process."""
    # One process loads many models, as starting one takes far longer than loading one.
    with ProbeClient(python) as client:
        for trial in models:
            try:
                refusal = client.refusal(trial.content, CPU)
            except Lost:
                yield trial, None
            else:
                op_type = trial.name.partition("[")[0].rpartition("::")[2]
                yield trial, fate_of(refusal, op_type)


def _schema(told: Mapping[str, Any]) -> Schema:
    inputs, outputs = (
        tuple(SchemaPort(*port) for port in told[key]) for key in ("inputs", "outputs")
    )
    variables = {name: tuple(sorted(kinds)) for name, kinds in told["variables"].items()}
    return Schema(inputs, outputs, variables, tuple(told["required"]), tuple(told["attributes"]))


def written(
    seen: Mapping[str, Seen], exact: Mapping[str, str], schemas: Mapping[str, Schema]
) -> str:
    """Return the document, an operator a line."""
    head = {
        "made": "by `make probe-targets`; not to be edited",
        "evidence": (
            f"Every model was loaded on {dt.datetime.now(tz=dt.UTC):%Y-%m-%d} on "
            f"{platform.system()} {platform.machine()}, by the CPU provider of each wheel, with "
            f"schemas of onnx {onnx.__version__}. It was not run."
        ),
        "title": "ONNX Runtime",
        "versions": dict(exact),
    }
    names = sorted({name for one in seen.values() for name in one if _matters(name, seen)})
    used = {name: tables.kept(s) for name, s in sorted(schemas.items()) if name in names}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    lines += ['"schemas": {', _listed(used), "},", '"operators": {']
    lines += [_listed({name: list(_rows(name, seen)) for name in names}), "}"]
    return "\n".join(["{", *lines, "}"]) + "\n"


def _matters(name: str, seen: Mapping[str, Seen]) -> bool:
    """Return true if the rows for all inputs differ from those for the required ones."""
    plain, mark, _ = name.partition(tables.ALL_INPUTS)
    return not mark or any(
        fates.items() - one.get(plain, {}).get(opset, {}).items()
        for one in seen.values()
        for opset, fates in one.get(name, {}).items()
    )


def _listed(entries: Mapping[str, Any]) -> str:
    return ",\n".join(f"  {json.dumps(name)}: {json.dumps(v)}" for name, v in entries.items())


def _rows(name: str, seen: Mapping[str, Seen]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an operator; versions and opsets with equal results share a row."""
    versions = [*seen]
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for version in versions:
        by_opset = seen[version].get(name, {})
        newest = max((o for by in seen[version].values() for o in by), default=0)
        for first, last in _stretches(by_opset):
            opsets = f"{first}.." + ("" if last == newest else str(last))
            fates = by_opset[first]
            content = json.dumps(_content(fates))
            found[opsets, content].append((version, version))
    for (opsets, content), held in found.items():
        for first_version, last_version in _neighbours([v for v, _ in held], versions):
            row = {"versions": f"{first_version}..{last_version}", "opsets": opsets}
            yield {**row, **json.loads(content)}


def _content(fates: Fates) -> dict[str, list[str]]:
    by_fate: dict[str, list[str]] = {}
    for fate in ("loads", "refused"):
        signatures = [signature for signature, one in fates.items() if one == fate]
        if signatures:
            by_fate[fate] = tables.packed(signatures)
    return by_fate


def _stretches(by_opset: Mapping[int, Fates]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of consecutive opsets with equal results."""
    first: int | None = None
    for opset in sorted(by_opset):
        first = opset if first is None else first
        if by_opset.get(opset + 1) != by_opset[opset]:
            yield first, opset
            first = None


def _neighbours(held: Sequence[str], versions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the first and last of ``held`` between which no version is missing."""
    places = sorted(versions.index(version) for version in held)
    start = 0
    for index, place in enumerate(places):
        if index + 1 == len(places) or places[index + 1] != place + 1:
            yield versions[places[start]], versions[place]
            start = index + 1


if __name__ == "__main__":
    main()

"""Generator of docs/activations.md, its pictures, and the schema of certificates.

``python -m gatewave.certificates.report.docs`` writes them. With ``--check`` it reports
differences, and exits with 1 if there is one. Only the existence of pictures is checked: the last
digits of their coordinates differ between machines.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import sympy
import typer

from gatewave.certificates import document
from gatewave.export import metadata, plots
from gatewave.export.accuracy import certify
from gatewave.export.markdown import bullets, page, table
from gatewave.graphs.ops import signature
from gatewave.models import ACTIVATIONS, DTYPES, Activation, Operator
from gatewave.models.symbols import Relu, Sigma, Step

FOLDER = Path("docs")
PAGE = "activations.md"
SCHEMA = "certificate.schema.json"
PICTURES = "plots"
COMMAND = "python -m gatewave.certificates.report.docs"

BOUNDED: dict[signature.Graph, str] = {
    "value": "value",
    "grad": "derivatives",
    "vjp": "vector-Jacobian product",
}
"""Names of the last output of each graph, in words."""

INTRODUCTION = f"""\
# Activations

<!-- Written by `{COMMAND}` from the records in models/. Edit those, and run it again. -->

Each section is one record of `models/`. Each formula is an ONNX operator of the domain
`{signature.DOMAIN}` in three graphs: the value, the value with all partial derivatives, and the
vector-Jacobian product for a backward pass.

An error is within its bound if it meets either number: the error in units in the last place (ULP)
of the exact result, or the absolute error. Every export is checked against its bounds.
[accuracy.md](accuracy.md) lists the measured errors."""


def text() -> str:
    """Return the page."""
    contents = bullets(
        f"[{a.title}](#{a.title.lower()}): {a.summary}" for a in ACTIVATIONS.values()
    )
    sections = itertools.chain.from_iterable(map(_section, ACTIVATIONS.values()))
    return page([INTRODUCTION, _notation(), contents, *sections])


def texts() -> dict[str, str]:
    """Return the content of each text file, by name."""
    schema = json.dumps(document.schema(), indent=2, ensure_ascii=False) + "\n"
    return {PAGE: text(), SCHEMA: schema}


def pictures() -> dict[str, tuple[Activation, Operator]]:
    """Return the activation and operator that each picture shows, by file name."""
    return {
        f"{activation.stem(operator)}.svg": (activation, operator)
        for activation in ACTIVATIONS.values()
        for operator in activation.operators
    }


def write(folder: Path) -> None:
    """Write the texts and the pictures into ``folder``; remove pictures of no record."""
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    for name, content in texts().items():
        (folder / name).write_text(content, encoding="utf-8")
    for name, shown in pictures().items():
        (folder / PICTURES / name).write_bytes(plots.render(plots.draw(*shown), "svg"))
    for path in _drawn(folder):
        if path.name not in pictures():
            path.unlink()


def differences(folder: Path) -> Iterator[str]:
    """Yield a message for each file in ``folder`` that differs from the records."""
    for name, content in texts().items():
        yield from itertools.islice(_differing(folder / name, content), 1)
    there = {path.name for path in _drawn(folder)}
    for name in sorted(pictures().keys() - there):
        yield f"{folder / PICTURES / name}: is missing"
    for name in sorted(there - pictures().keys()):
        yield f"{folder / PICTURES / name}: shows no record"


def _differing(path: Path, content: str) -> Iterator[str]:
    found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines = itertools.zip_longest(found, content.splitlines(), fillvalue="")
    for number, (is_, should_be) in enumerate(lines, start=1):
        if is_ != should_be:
            yield f"{path}:{number}: is {is_!r}, but the records give {should_be!r}"


def _drawn(folder: Path) -> list[Path]:
    return list((folder / PICTURES).glob("*.svg"))


def _notation() -> str:
    x = sympy.Symbol("x", real=True)
    functions = (function(x) for function in (Sigma, Relu, Step))
    return bullets(f"${sympy.latex(f)}$: {type(f).__doc__}" for f in functions)


def _section(activation: Activation) -> Iterator[str]:
    yield f"## {activation.title}"
    yield activation.summary
    for operator in activation.operators:
        yield from _formula(activation, operator)
    if activation.parameters:
        yield _parameters(activation)
    for title, sentences in (
        ("Properties", activation.properties),
        ("Uses", activation.uses),
        ("Limits", activation.limits),
    ):
        yield f"**{title}**"
        yield bullets(sentences)
    yield f"Source: <{activation.source}>"


def _formula(activation: Activation, operator: Operator) -> Iterator[str]:
    stem = activation.stem(operator)
    if operator.choice:
        yield "### " + ", ".join(f'`{n}="{word}"`' for n, word in operator.choice.items())
    yield _display(metadata.formula(activation, operator))
    yield from map(_display, metadata.derivatives(activation, operator).values())
    yield f"![{stem} and its derivatives]({PICTURES}/{stem}.svg)"
    yield table(
        ("graph", f"operator of `{signature.DOMAIN}`", "inputs", "outputs"),
        (
            (
                graph,
                f"`{signature.op_type(operator, graph)}`",
                _names(*signature.inputs(activation, graph), *operator.reals),
                _names(*signature.outputs(activation, graph)),
            )
            for graph in signature.GRAPHS
        ),
    )
    yield table(
        ("error bound", *DTYPES),
        ((what, *_bounds(activation, operator, graph)) for graph, what in BOUNDED.items()),
    )


def _bounds(activation: Activation, operator: Operator, graph: signature.Graph) -> Iterator[str]:
    output = signature.outputs(activation, graph)[-1]
    names = (*signature.inputs(activation, graph), *operator.reals)
    for dtype in DTYPES:
        tolerance = certify.tolerance_of(operator, output, dtype)
        yield certify.in_words(tolerance, operator, names)


def _parameters(activation: Activation) -> str:
    return table(
        ("parameter", "default", "values", "meaning"),
        (
            (
                f"`{p.name}`",
                f"`{p.default}`",
                _names(*p.choices) or "any real number",
                p.description,
            )
            for p in activation.parameters
        ),
    )


def _display(latex: str) -> str:
    return f"$$\n{latex}\n$$"


def _names(*names: str) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main(
    *,
    check: Annotated[bool, typer.Option("--check", help="Only report differences.")] = False,
    folder: Annotated[Path, typer.Option(help="The folder of the documentation.")] = FOLDER,
) -> None:
    """Write docs/activations.md and its pictures from the records, and the certificates' schema."""
    if not check:
        write(folder)
        return
    found = list(differences(folder))
    for difference in found:
        typer.echo(difference, err=True)
    if found:
        typer.echo(f"Run `{COMMAND}`.", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

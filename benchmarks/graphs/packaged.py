"""Benchmark of commands and of fused models, on models from PyPI packages.

    python -m benchmarks.graphs.packaged [--quick] [--models NAME ...] [--write]

It prints two tables; ``--write`` writes them into docs/graphs.md, between their marks. Run it on an
idle machine. `make bench-graphs` runs it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from benchmarks.graphs import commands, cpu
from benchmarks.graphs.commands import Ran
from benchmarks.graphs.models import FOLDER, PACKAGED, Model, models
from benchmarks.graphs.page import PAGE, about, counts, put
from benchmarks.timing import Ratio
from gatewave.export.markdown import page, table

LIBRARY = Path("service/libgatewave.so")
BEGIN = "<!-- Measured by `make bench-graphs`, on models of packages: -->"
END = "<!-- Here ends what was measured on models of packages. -->"
BEGIN_GAIN, END_GAIN = "<!-- Gain, by `make bench-graphs`: -->", "<!-- Here ends the gain. -->"

TARGET = "onnxruntime-1.20"
TURNS, QUICK_TURNS = 11, 5
LIMIT, QUICK_LIMIT = 90.0, 60.0
"""Seconds after which a command is ended."""

UNCHANGED = 2.0
"""Seconds that a command without changes may take beyond its load."""
SMALL, FUSE = 2 << 20, 20.0
"""Size of a small model in bytes, and seconds that `fuse` may take for it."""

MODELS_HEADER = (
    "model", "graph", "opset", "found", "fused", "left", "evidence", "CPU time, kernels",
    "CPU time, no kernels",
)  # fmt: skip

HEADING = "### Models of other packages, and the cost of commands"

LEGEND = """\
These models come from PyPI packages; `benchmarks/graphs/packages.txt` lists the versions. No
package has a model of opset 20 or with external data. *Variant* is a packaged model that ONNX's
converter upgraded. *Found*, *fused* and *left* are as above. *Evidence* is that of `fuse`: its
level, the number of cases, and the used share of the tolerance. *CPU time* is that of the fused
model relative to the original, both optimised by ONNX Runtime, in one thread and in turns: median
and quartiles. Below 1, fusing saves time."""

COMMANDS_LEGEND = f"""\
The next table shows the time of each command, and the peak memory of all its processes in MB.
*Load* is the start of Python, the imports and reading the model. `lower` is for `{TARGET}`.
`verify` compares the original with the output of `fuse`. Bold exceeds a limit: {UNCHANGED:g} s more
than the load for a command that changes nothing, and {FUSE:g} s for `fuse` of a model below {
    SMALL >> 20
} MB."""

COMMANDS = ("inspect", "lower", "fuse", "verify", "certify")


@dataclass(frozen=True)
class Row:
    """All measurements of one model."""

    model: Model
    load: Ran
    ran: dict[str, Ran]
    with_kernels: Ratio | None
    without: Ratio | None

    def document(self, command: str) -> dict[str, Any]:
        """The JSON that the command printed; empty if it failed."""
        found = self.ran[command].document if command in self.ran else None
        return found if isinstance(found, dict) else {}

    @property
    def fused(self) -> Counter[str]:
        found = Counter(one["kind"] for one in self.document("inspect").get("activations", []))
        changes = Counter(one["kind"] for one in self.document("fuse").get("changes", []))
        return Counter({kind: count for kind, count in changes.items() if kind in found})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and with ``--write`` put it all into docs/graphs.md."""
    options = _options(arguments)
    if not options.library.exists():
        sys.exit(f"{options.library} is missing: make native")
    intro = about(options.library)
    print(intro, end="\n\n")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models(options.folder, Path(folder), options.models):
            print(f"{model.about.name} ...", file=sys.stderr, flush=True)
            rows.append(_measured(model, Path(folder), options))
        # Variants are files in that folder.
        about_models = table(MODELS_HEADER, map(_model_cells, rows))
        about_commands = table(("model", "MB", "load", *COMMANDS), map(_command_cells, rows))
    blocks = [HEADING, intro, LEGEND, about_models, COMMANDS_LEGEND, about_commands]
    gain = _gain(rows)
    print(page([*blocks, gain]))
    if options.write:
        put(options.write, page(blocks), BEGIN, END)
        put(options.write, gain, BEGIN_GAIN, END_GAIN)
        print(f"wrote {options.write}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [one.name for one in PACKAGED]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer turns, and shorter limits")
    parser.add_argument("--models", nargs="+", default=[], choices=names, metavar="NAME")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the packages")
    parser.add_argument("--library", type=Path, default=LIBRARY, help="the kernels")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help=f"write {PAGE}")
    options = parser.parse_args(arguments)
    if options.write and options.models:
        parser.error("--write is for all models: expected no --models")
    return options


def _measured(model: Model, scratch: Path, options: argparse.Namespace) -> Row:
    limit = QUICK_LIMIT if options.quick else LIMIT
    given, lowered, fused = model.path, scratch / "lowered.onnx", scratch / "fused.onnx"
    for path in (lowered, fused):
        path.unlink(missing_ok=True)
    ran = {
        "inspect": commands.gatewave("inspect", given, limit=limit),
        "lower": commands.gatewave("lower", given, "-t", TARGET, "-o", lowered, limit=limit),
        "fuse": commands.gatewave("fuse", given, "-o", fused, limit=limit),
    }
    other = fused if fused.exists() else given
    ran["verify"] = commands.gatewave("verify", given, other, limit=limit)
    if model.about.certify:
        folder = scratch / "certificates"
        what = ("--runtimes", "reference,onnxruntime", "-o", folder)
        ran["certify"] = commands.gatewave("certify", given, *what, limit=limit)
    row = Row(model, commands.load(given, limit), ran, None, None)
    if not row.fused:
        return row
    turns = QUICK_TURNS if options.quick else TURNS
    with_kernels, without = cpu.ratios(given, fused, model.inputs, options.library, turns)
    return Row(model, row.load, ran, with_kernels, without)


def _model_cells(row: Row) -> tuple[str, ...]:
    about, inspected, fused = row.model.about, row.document("inspect"), row.document("fuse")
    found = Counter(one["kind"] for one in inspected.get("activations", []))
    left = Counter(one["kind"] for one in fused.get("skipped", []))
    opset = onnx.load(row.model.path, load_external_data=False).opset_import
    return (
        about.name,
        f"{about.origin}; {about.kind}",
        ", ".join(str(one.version) for one in opset if one.domain in {"", "ai.onnx"}),
        counts(found),
        counts(row.fused),
        counts(left),
        _evidence(row),
        _ratio(row.with_kernels),
        _ratio(row.without),
    )


def _evidence(row: Row) -> str:
    report = row.document("fuse").get("verified")
    if not report:
        return row.ran["fuse"].error
    if not row.fused:
        return "nothing to compare"
    used = max((one["difference"]["used"] for one in report["outputs"]), default=0.0)
    return f"{report['level']}, {len(report['cases'])} cases, {used:.1%}"


def _ratio(found: Ratio | None) -> str:
    return "–" if found is None else f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"


def _command_cells(row: Row) -> tuple[str, ...]:
    size = sum(
        path.stat().st_size for path in row.model.path.parent.glob(f"{row.model.path.name}*")
    )
    cells = (_command_cell(row, name, size) for name in COMMANDS)
    return (row.model.about.name, f"{size / 1e6:.1f}", _words(row.load), *cells)


def _command_cell(row: Row, name: str, size: int) -> str:
    if name not in row.ran:
        return "–"
    ran = row.ran[name]
    is_unchanged = {
        "inspect": True,
        "verify": not row.fused,
        "certify": False,
    }.get(name, not row.document(name).get("changes"))
    beyond = ran.seconds - row.load.seconds
    is_slow = name == "fuse" and size < SMALL and ran.seconds > FUSE
    is_over = is_slow or (is_unchanged and beyond > UNCHANGED)
    return f"**{_words(ran)}**" if is_over else _words(ran)


def _words(ran: Ran) -> str:
    text = f"{ran.seconds:.1f} s, {ran.peak / 1e6:.0f}"
    return text if ran.document is not None or not ran.error else f"{text}; fails"


def _gain(rows: Sequence[Row]) -> str:
    """Return a sentence on the end-to-end gain from fusing."""
    found = sorted(
        (row.with_kernels.median, row.model.about.name) for row in rows if row.with_kernels
    )
    if not found:
        return f"`fuse` changes none of the {len(rows)} models of packages below."
    least, most = (
        f"{(ratio - 1) * 100:+.1f} % (*{name}*)" for ratio, name in (found[0], found[-1])
    )
    return (
        f"`fuse` changes {len(found)} of the {len(rows)} models of packages below. With our "
        f"kernels, their end-to-end CPU time changes by {least} to {most}."
    )


if __name__ == "__main__":
    main()

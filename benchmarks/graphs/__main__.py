"""Benchmark of `gatewave fuse` on published models: counts, verification and times.

    python -m benchmarks.graphs [--quick] [--only NAME] [--write]

It prints a table; ``--write`` writes it into docs/graphs.md, between its marks. `make bench-graphs`
runs it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.graphs.measured import KERNELS, OWN, PLAIN, REGARDLESS, UNFUSED, Measured, measured
from benchmarks.graphs.page import PAGE, about, counts, put
from benchmarks.graphs.production import FOLDER, graphs
from benchmarks.kernels.runtime import THREADS, spread
from benchmarks.timing import Ratio, ratio
from gatewave.export.markdown import page, table

LIBRARY = Path("service/libgatewave.so")
BEGIN, END = "<!-- Measured by `make bench-graphs`: -->", "<!-- Here ends what was measured. -->"
TURNS, QUICK_TURNS = 15, 5

NOISE = 1.02
"""Ratio between two runs of the same graph, below which a difference is noise."""

SLOWER = "**slower**"

SHOWN = (UNFUSED, PLAIN, KERNELS, REGARDLESS)

HEADER = (
    "graph",
    "found",
    "fused",
    "left",
    "largest difference",
    "ONNX Runtime's own fusion, ms",
    "no fusion",
    "fused, no kernels",
    "fused, kernels",
    "fused regardless",
    "",
)

LEGEND = f"""\
- *Found*: activations of every kind. *Fused*: those of several nodes that `fuse` replaced.
- *Left*: those that ONNX Runtime's own fusion computes faster. *Fused regardless* is the time if
  `fuse` replaces them too, with kernels.
- *Largest difference*: that of any output in `gatewave verify`, with kernels and without, as an
  absolute number and as a share of the tolerance.
- Times are medians. *ONNX Runtime's own fusion* is the original, in ms; the others are multiples of
  it, turn by turn (above 1: slower). *No fusion* is the original without ONNX Runtime's fusion of
  SiLU. All run in turns in one process, with {THREADS} threads each.
- The last column compares with ONNX Runtime's own fusion. **slower**: the lower quartile of the
  turns' ratios is above {NOISE}; do not fuse such a graph. *faster*: the upper quartile is below
  1 / {NOISE}. *equal*: the median is between these numbers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and with ``--write`` put it all into docs/graphs.md."""
    options = _options(arguments)
    if not options.library.exists():
        sys.exit(f"{options.library} is missing: make native")
    spread("benchmarks.graphs")
    torch.set_num_threads(THREADS)
    intro = about(options.library)
    print(intro, end="\n\n")
    text = table(HEADER, [_row(one) for one in _all(options)])
    print(text)
    if options.write:
        put(options.write, page([intro, LEGEND, text]), BEGIN, END)
        print(f"\nwrote {options.write}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these graphs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the packages")
    parser.add_argument("--library", type=Path, default=LIBRARY, help="the kernels")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help=f"write {PAGE}")
    return parser.parse_args(arguments)


def _all(options: argparse.Namespace) -> Iterator[Measured]:
    count = QUICK_TURNS if options.quick else TURNS
    with tempfile.TemporaryDirectory() as folder:
        for graph in graphs(options.folder, Path(folder), options.only):
            print(f"{graph.name} ...", file=sys.stderr, flush=True)
            yield measured(graph, Path(folder) / "fused.onnx", options.library, count)


def _row(one: Measured) -> tuple[str, ...]:
    own = statistics.median(one.samples[OWN]) * 1e3
    return (
        one.name,
        counts(one.found),
        counts(one.fused),
        counts(one.left),
        one.difference,
        f"{own:.3g}",
        *(
            _cell(one, name, lambda r: f"{r.median:.2f}")
            for name in (UNFUSED, PLAIN, KERNELS, REGARDLESS)
        ),
        _verdict(one),
    )


def _cell(one: Measured, name: str, words: Callable[[Ratio], str]) -> str:
    return words(ratio(one.samples[name], one.samples[OWN])) if name in one.samples else "–"


def _verdict(one: Measured) -> str:
    if not one.fused:
        return ""
    slower = _cell(one, PLAIN, _judged) == SLOWER
    return _cell(one, KERNELS, _judged) + f"; without kernels {SLOWER}" * slower


def _judged(found: Ratio) -> str:
    if found.low > NOISE:
        return SLOWER
    if found.high < 1 / NOISE:
        return "faster"
    return "equal" if 1 / NOISE <= found.median <= NOISE else "within noise"


if __name__ == "__main__":
    main()

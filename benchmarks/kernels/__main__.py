"""Benchmark of the native kernels against other implementations and memory bandwidth.

    python -m benchmarks.kernels [--quick] [--all] [--dtype float16] [--write]

It prints two tables; ``--write`` writes them to docs/performance.md. `make bench-kernels` runs it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.kernels import goals
from benchmarks.kernels.case import SEED, SPREAD, Case, cases
from benchmarks.kernels.contestants import OURS, RIVALS, ROOF, Round, calls
from benchmarks.kernels.goals import Samples
from benchmarks.kernels.runtime import THREADS, instructions, spread
from benchmarks.timing import machine, ratio, turns
from gatewave.export.markdown import page, table
from gatewave.models import DTYPES

PAGE = Path("docs/performance.md")
LIBRARY = Path("service/libgatewave.so")
PACKAGES = ("onnxruntime", "torch", "numpy", "openvino")

TURNS = {64: 41, 1 << 12: 21, 1 << 16: 15, 1 << 20: 15, 1 << 24: 9}
"""Turns of each contestant, by the number of elements."""

INTRODUCTION = """\
# Performance

<!-- Measured and written by `make bench-kernels`. -->

Times of the native kernels in ONNX Runtime, compared with alternatives. Measure again with
`make bench-kernels`. `python -m benchmarks.kernels` has options: `--quick`, `--all` for every
record, `--dtype`, `--sizes`, `--without`."""

METHOD = f"""\
The alternatives run in turns, in one process, with {THREADS} threads each (NumPy has one), each
thread on its own processor. Before a turn, all threads of the process are idle, so no thread spins
in another's turn. A turn has 30 ms of warm-up, and then repeats its call for at least 10 ms. The
inputs are normally distributed with standard deviation {SPREAD:g}, the same for all (seed {SEED}).
Graphs in ONNX Runtime are bound to their inputs and outputs beforehand, with and without kernels.

- *torch.onnx.export*: its graph of the plain Torch formula (`torch.sinc(x)`, `F.silu(a) * b`, …;
  for gradients, the value and the partial derivatives, written out), run by ONNX Runtime. For
  records without a plain formula (`--all`), the record's Torch module is exported, and run eagerly.
- *Function body*: our graph without the kernel library.
- *Torch eager* allocates its results, as in normal use; above about 32 MB this costs page faults.
  *torch.compile* is compiled for each size, and writes to given outputs. For gradients, both run
  forward and `torch.autograd.grad`.
- *NumPy*: the plain formula, with `out=` for the results. *OpenVINO*: our decomposed graph.
- *The roof* is the limit of memory bandwidth: ONNX Runtime's own `Abs` for one input, `Add` for
  two. For gradients, it is a copy by Torch of the same total number of bytes, half read and half
  written. This roof is strict, because gradients write more than they read, and writing is
  slower."""

LEGEND = """\
All numbers are medians: the time of our kernel in µs; the others as multiples of it, turn by turn
(above 1: slower than ours; a dash: not supported); and our speed as a share of the roof's. At small
sizes, the share reflects the overhead of a call, and Torch's copy is a call without ONNX
Runtime."""

NOISE = """\
## Goals

A goal is reached if the median ratio of the turns reaches it, and "within noise" if the upper
quartile does. The column *the roof* shows the ratio that the roof would reach. If it is below the
goal, memory or call overhead is the limit; if it is above, arithmetic is the limit."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and with ``--write`` put it all into docs/performance.md."""
    options = _options(arguments)
    if not options.library.exists():
        sys.exit(f"{options.library} is missing: make native")
    spread("benchmarks.kernels")
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    about = _about(options)
    print(about, end="\n\n")
    measured = dict(_measured(options))
    blocks = [about, METHOD, "## Times", LEGEND, *_tables(measured, options)]
    print(*blocks[4:], sep="\n\n")
    if options.write:
        options.write.write_text(page([INTRODUCTION, *blocks]), encoding="utf-8")
        print(f"\nwrote {options.write}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--all", action="store_true", help="the graphs of every record")
    parser.add_argument("--quick", action="store_true", help="up to 1 Mi elements, fewer turns")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(TURNS), metavar="N")
    parser.add_argument("--without", action="append", default=[], choices=RIVALS)
    parser.add_argument("--library", type=Path, default=LIBRARY, help="the kernels")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help=f"write {PAGE}")
    return parser.parse_args(arguments)


def _measured(options: argparse.Namespace) -> Iterable[tuple[tuple[str, int], Samples]]:
    for case in cases(options.dtype, every=options.all):
        for size in options.sizes:
            if not (options.quick and size > 1 << 20):
                yield (case.name, size), _samples(case, size, options)


def _samples(case: Case, size: int, options: argparse.Namespace) -> Samples:
    print(f"{case.name}, {size:,} elements ...", file=sys.stderr, flush=True)
    count = TURNS.get(size, 15) // (3 if options.quick else 1)
    inputs, outputs = case.tensors(size)
    return turns(calls(Round(case, inputs, outputs, options.library), options.without), count)


def _tables(measured: Mapping[tuple[str, int], Samples], options: argparse.Namespace) -> list[str]:
    rivals = [name for name in RIVALS if any(name in samples for samples in measured.values())]
    header = ("graph", "elements", "ours, µs", *rivals, "share of the roof")
    times = table(header, (_row(*key, samples, rivals) for key, samples in measured.items()))
    reached = list(goals.rows(measured)) if options.dtype == "float32" else []
    return [times, NOISE, table(goals.HEADER, reached)] if reached else [times]


def _row(name: str, size: int, samples: Samples, rivals: Sequence[str]) -> tuple[str, ...]:
    ours = statistics.median(samples[OURS]) * 1e6
    return name, f"{size:,}", f"{ours:,.1f}", *(_multiple(n, samples) for n in (*rivals, ROOF))


def _multiple(name: str, samples: Samples) -> str:
    return f"{ratio(samples[name], samples[OURS]).median:.2f}" if name in samples else "–"


def _about(options: argparse.Namespace) -> str:
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        f"Measured on {today} in {options.dtype}, on {platform.system()} {platform.machine()} "
        f"({machine()}), kernels for {instructions(options.library)}, with Python "
        f"{platform.python_version()}, {packages}. Load average at the start: "
        f"{os.getloadavg()[0]:.1f}; above some tenths, synchronising threads are slow."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()

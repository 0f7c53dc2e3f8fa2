"""Decision whether requests to a model are batched: rows together must equal the rows alone.

The graph shows whether rows are independent for all inputs (`rowwise`). The runs here confirm it
for samples of different scale and sign, because ONNX Runtime may choose another algorithm for
another number of rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import ModelFailed, ModelRefused
from gatewave.service.repository.config import BatchingConfig, Config
from gatewave.service.repository.model import InProcessModel
from gatewave.service.repository.trial import process_limits, samples
from gatewave.service.repository.trial.samples import Tensors
from gatewave.service.repository.trial.shapes import Shapes, candidates
from gatewave.service.serving.model import ANY, Batching

SEED = 20261123
MEASURED_ROWS = 8
MAX_TIME_RATIO = 0.5
"""Batching saves enough if `MEASURED_ROWS` rows together take less than this share of the time of
as many single rows. With one caller, batching costs 55 to 85 µs a request (ADR 12)."""
COMPARED_ROWS = 32
"""Rows of a batch that are also computed alone; a batch may have 65,536."""
MIXED_COUNTS = (2, 2, 2, 8)
"""Numbers of mixed rows that are compared; few, so that slow models finish in time."""
MAX_CHECK_SECONDS = 5.0
"""Expected time of the check, in seconds, above which mode ``auto`` does not batch."""
MIN_RUNS, MAX_RUNS, TIMING_SECONDS = 3, 50, 0.1


def decide(
    model: InProcessModel, config: Config, unshown: str, shapes: Shapes | None = None
) -> tuple[Batching | None, str]:
    """Return the batching of requests to ``model``, and the reason for it or its absence.

    Args:
        model: A model that has been run once.
        config: Its configuration.
        unshown: The reason why its graph does not show that rows are independent; empty if it does.
        shapes: Shapes that it ran on; by default, open sizes are 1.
    """
    wanted = config.batching
    shapes = shapes or next(candidates(model, config.warmup or {}))
    if wanted.batching is None:
        return None, not_batched("config.yaml has batching: off")
    try:
        _check(model, config, wanted, unshown, shapes)
    except (ModelFailed, ModelRefused, MemoryError) as error:
        return None, not_batched(str(error) or process_limits.OUT_OF_MEMORY)
    if unshown:
        return wanted.batching, f"batched: config.yaml requests it; not shown: {unshown}"
    return wanted.batching, "batched: the graph shows that rows are independent"


def not_batched(reason: str) -> str:
    """Return the note on a model that is served without batching."""
    return f"not batched: {reason}"


def _check(
    model: InProcessModel, config: Config, wanted: BatchingConfig, unshown: str, shapes: Shapes
) -> None:
    """Check that batching changes no result; in mode ``auto``, also that it saves time.

    Raises:
        ModelRefused: It changes a result, or saves too little.
        ModelFailed: The model cannot compute so many rows.
    """
    _check_row_axes(model)
    if wanted.mode == "auto":
        _check_auto(model, config, unshown)
    source = np.random.default_rng(SEED)

    def draw(count: int) -> Tensors:
        return {
            port.name: samples.plain(port, (count, *shapes[port.name][1:]), source)
            for port in model.inputs
        }

    if wanted.mode == "auto":
        _check_saving(model, draw, wanted.max_size)
    for count in sorted({2, 3, wanted.max_size}):
        _compare_rows(model, draw(count), sampled(count))
    _compare_mixed(model, shapes, wanted.max_size, is_shown=not unshown)


def _compare_mixed(model: InProcessModel, shapes: Shapes, most: int, *, is_shown: bool) -> None:
    """Check that rows of other scales and signs, as far as accepted, do not change results.

    Raises:
        ModelRefused: They change a result.
    """
    # The widest range has large integers. If the graph is not shown to be row-wise, an integer
    # may be an amount of computation, such as a number of iterations.
    ranges = samples.SAMPLE_RANGES if is_shown else samples.SAMPLE_RANGES[1:]
    for sample_range in ranges:
        source = np.random.default_rng(SEED)
        try:
            for count in (min(count, most) for count in MIXED_COUNTS):
                sizes = {name: (count, *shape[1:]) for name, shape in shapes.items()}
                tensors = samples.mixed(model.inputs, sizes, source, sample_range)
                compared = set(sampled(count)) - samples.special_rows(count, sample_range)
                _compare_rows(model, tensors, sorted(compared))
        except ModelFailed:
            # The model does not accept such values, for example as indices: try a narrower range.
            continue
        return


def _check_saving(model: InProcessModel, draw: Callable[[int], Tensors], most: int) -> None:
    """Check that rows together take much less time than the same rows alone.

    Raises:
        ModelRefused: They do not, or the check would take too long.
    """
    alone = seconds_of(model, draw(1))
    if alone * most > MAX_CHECK_SECONDS:
        raise ModelRefused(f"a run takes {alone:.2g} seconds, and the check needs {most} runs")
    together = seconds_of(model, draw(MEASURED_ROWS))
    if together >= MAX_TIME_RATIO * MEASURED_ROWS * alone:
        times = f"{together / alone:.1f} times as long as one row"
        raise ModelRefused(f"batching saves too little: {MEASURED_ROWS} rows take {times}")


def _check_auto(model: InProcessModel, config: Config, unshown: str) -> None:
    """Refuse automatic batching of models that may not be row-wise.

    Raises:
        ModelRefused: The graph does not show it, or the model may not be run, or its inputs may
            have different numbers of rows.
    """
    if unshown:
        raise ModelRefused(unshown)
    if config.warmup is None:
        raise ModelRefused("config.yaml has warmup: off")
    if len(model.inputs) > 1 and None in {model.symbols[port.name][0] for port in model.inputs}:
        raise ModelRefused("the graph does not declare that its inputs have equally many rows")


def _check_row_axes(model: InProcessModel) -> None:
    """Check that all inputs and outputs have an open first axis of the same size.

    Raises:
        ModelRefused: They do not.
    """
    if not model.inputs or model.optional:
        raise ModelRefused("the model has no inputs, or has optional ones")
    ports = {port.name: port for port in (*model.inputs, *model.outputs)}
    for port in ports.values():
        if port.name in model.unranked or not port.shape or port.shape[0] != ANY:
            raise ModelRefused(f"the first size of {port.name} is not open")
    if len({model.symbols[port.name][0] for port in model.inputs} - {None}) > 1:
        raise ModelRefused("the inputs may have different numbers of rows")


def _compare_rows(model: InProcessModel, tensors: Tensors, compared: list[int]) -> None:
    """Check that the rows ``compared`` have the same results in all rows together as alone.

    Raises:
        ModelRefused: They do not.
        ModelFailed: The model cannot compute them.
    """
    count = next(iter(tensors.values())).shape[0]
    together = model.run(tensors, model.output_names, {})
    rows = [
        model.run({name: t[i : i + 1] for name, t in tensors.items()}, model.output_names, {})
        for i in compared
    ]
    for name, result in together.items():
        alone = [row[name] for row in rows]
        if result.shape[:1] != (count,) or any(
            one.shape != (1, *result.shape[1:]) for one in alone
        ):
            raise ModelRefused(f"{name} does not have one row for each row of the inputs")
        if not equal_within_one_ulp(np.concatenate(alone), result[compared]):
            raise ModelRefused(f"{name} of {count} rows together differs from that of each alone")


def sampled(count: int) -> list[int]:
    """Return the rows of ``count`` to compare: the first, the last and a sample of the others.

    Kernels that work on blocks of rows may compute the rest of a block in another way.
    """
    if count <= COMPARED_ROWS:
        return list(range(count))
    source = np.random.default_rng(SEED)
    between = source.choice(np.arange(1, count - 1), COMPARED_ROWS - 2, replace=False)
    return [0, *sorted(between.tolist()), count - 1]


def equal_within_one_ulp(exact: Array, other: Array) -> bool:
    """Return whether each number equals the other, or is the next one to it.

    A vectorized kernel computes the elements that do not fill its last vector in another way, and
    their position depends on the number of rows. Of ``Sin`` on rows of 63 float32 numbers, 2 of 504
    results differ by 1 ULP between 8 rows together and alone (ONNX Runtime 1.32, x86-64). A
    difference of 2 ULP is taken for an effect of one row on another.
    """
    if exact.shape != other.shape:
        return False
    same = exact == other
    if exact.dtype.kind not in "iubO":
        for end in (-np.inf, np.inf):
            same |= np.nextafter(exact, exact.dtype.type(end)) == other
        same |= np.isnan(exact) & np.isnan(other)
    return bool(np.all(same))


def seconds_of(model: InProcessModel, tensors: Tensors) -> float:
    """Return the shortest time of some runs, in seconds: disturbances only prolong a run."""
    best, began, runs = float("inf"), time.perf_counter(), 0
    while runs < MIN_RUNS or (runs < MAX_RUNS and time.perf_counter() - began < TIMING_SECONDS):
        start = time.perf_counter()
        model.run(tensors, model.output_names, {})
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best

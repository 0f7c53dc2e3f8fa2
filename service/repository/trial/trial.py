"""What a model is put to before it is served: a first run, and the proof that batching is exact."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from gatewave.service.codecs.datatypes import BYTES, DATATYPES, Array
from gatewave.service.errors import ModelFailed, ModelRefused
from gatewave.service.onnx.arena import arena_needed
from gatewave.service.repository.config import Config, Rows
from gatewave.service.repository.model import RepositoryModel
from gatewave.service.repository.trial import samples
from gatewave.service.repository.trial.sizes import Shapes, candidates, in_words
from gatewave.service.serving.model import ANY, Batching, Port

SEED = 20261123
MEASURED_ROWS = 8
PAYS_BELOW = 0.5
"""Batching pays where `MEASURED_ROWS` rows together take less than this share of the rows alone."""
COMPARED_ROWS = 32
"""So many rows of a batch are computed alone too: a batch may have 65,536."""
MIXED_COUNTS = (2, 2, 2, 8)
"""Numbers of mixed rows that are compared; few, so that slow models finish in time."""
SECONDS_OF_SEARCH = 20.0
"""Time for finding sizes on which a model runs; a trial has a minute for everything."""
SECONDS_OF_PROOF = 5.0
"""What the proof may take where nobody asked for it."""
FEWEST_RUNS, MAX_RUNS, SECONDS_OF_RUNS = 3, 50, 0.1

Tensors = dict[str, Array]


def warm(
    model: RepositoryModel,
    config: Config,
    found: Shapes | None = None,
    seconds: float = SECONDS_OF_SEARCH,
) -> Shapes:
    """Run ``model`` on zeros and on ones; return the shapes of the inputs that it ran on.

    Sizes that neither the configuration nor the graph gives are 1, and raised until it runs.

    Args:
        model: A model that is loaded.
        config: Its configuration.
        found: Shapes that it ran on before; without them, sizes are tried.
        seconds: Time after which no further sizes are tried.

    Raises:
        ModelRefused: It computes neither, or the configuration does not fit it.
    """
    if config.warmup is None:
        return {}
    check_shapes(model, config.warmup)
    end = time.monotonic() + seconds
    tried: list[Shapes] = []
    errors: list[ModelFailed] = []
    for shapes in candidates(model, found or config.warmup):
        error = _refusal(model, shapes)
        if error is None:
            return shapes
        tried.append(shapes)
        errors.append(error)
        # Where a run with sizes of 1 takes too much memory, larger ones do as well.
        if time.monotonic() > end or (len(tried) == 1 and _is_too_large(error)):
            break
    cause = next(filter(_is_too_large, errors), errors[0])
    raise ModelRefused(f"{cause}; {_words(tried)}") from cause


def _refusal(model: RepositoryModel, shapes: Shapes) -> ModelFailed | None:
    """Run ``model`` on zeros and on ones; return the error if neither can be computed."""
    refusals = []
    for value in (0, 1):
        try:
            model.run(
                {
                    port.name: _full(port, shapes[port.name], value)
                    for port in model.inputs
                    if port.name in shapes
                },
                model.output_names,
                {},
            )
        except ModelFailed as error:
            refusals.append(error)
    return refusals[-1] if len(refusals) > 1 else None


def _is_too_large(error: BaseException) -> bool:
    return arena_needed(error, 0) is not None


def _words(tried: list[Shapes]) -> str:
    """Return the shapes that were tried, in words, and what can be done."""
    words = f"tried with {in_words(tried[0]) or 'no inputs'}"
    if len(tried) > 1:
        largest = max(tried, key=lambda shapes: sum(map(math.prod, shapes.values())))
        words += f" and {len(tried) - 1} others, up to {in_words(largest)}"
    return f"{words}: config.yaml can say other shapes under warmup"


def check_shapes(model: RepositoryModel, warmup: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the configuration gives shapes to inputs that can have them.

    Raises:
        ModelRefused: It names another input, or a shape that does not fit.
    """
    for name, shape in warmup.items():
        port = next((port for port in model.inputs if port.name == name), None)
        if port is None:
            known = ", ".join(model.input_names) or "no inputs"
            raise ModelRefused(f"config.yaml: warmup.{name}: expected only {known}")
        if name not in model.unranked and (
            len(shape) != len(port.shape)
            or any(size not in {ANY, said} for size, said in zip(port.shape, shape, strict=True))
        ):
            expected = f"{list(port.shape)}, where {ANY} is any size"
            raise ModelRefused(
                f"config.yaml: warmup.{name}: expected {expected}, got {list(shape)}"
            )


def _full(port: Port, shape: tuple[int, ...], value: int) -> Array:
    if port.datatype == BYTES:
        return np.full(shape, str(value), np.object_)
    return np.full(shape, value, DATATYPES[port.datatype].numpy)


def batching(
    model: RepositoryModel, config: Config, unshown: str, shapes: Shapes | None = None
) -> tuple[Batching | None, str]:
    """Return the batching of requests to ``model``, and the reason for it or its absence.

    Args:
        model: A model that has been run once.
        config: Its configuration.
        unshown: The reason why its graph does not show that rows are independent; empty if it does.
        shapes: Shapes that it ran on; by default, open sizes are 1.
    """
    rows = config.batching
    shapes = shapes or next(candidates(model, config.warmup or {}))
    if rows.batching is None:
        return None, unbatched("config.yaml says batching: off")
    try:
        _prove(model, config, rows, unshown, shapes)
    except (ModelFailed, ModelRefused, MemoryError) as error:
        return None, unbatched(str(error) or "its proof asks for more memory than there may be")
    if unshown:
        return rows.batching, f"it is batched because config.yaml says so; not shown: {unshown}"
    return rows.batching, "it is batched: its graph shows that rows are independent"


def unbatched(why: str) -> str:
    """What is said of a model that is served without batching."""
    return f"it is not batched: {why}"


def _prove(
    model: RepositoryModel, config: Config, rows: Rows, unshown: str, shapes: Shapes
) -> None:
    """See that batching changes no result; and, where it is left to us, that it pays.

    Raises:
        ModelRefused: It changes one, or does not pay.
        ModelFailed: The model cannot compute so many rows.
    """
    _refuse_closed(model)
    if rows.mode == "auto":
        _refuse_doubtful(model, config, unshown)
    source = np.random.default_rng(SEED)

    def drawn(count: int) -> Tensors:
        return {
            port.name: samples.plain(port, (count, *shapes[port.name][1:]), source)
            for port in model.inputs
        }

    if rows.mode == "auto":
        _measure(model, drawn, rows.max_size)
    for count in sorted({2, 3, rows.max_size}):
        _prove_rows(model, drawn(count), sampled(count))
    _prove_mixed(model, shapes, rows.max_size, shown=not unshown)


def _prove_mixed(model: RepositoryModel, shapes: Shapes, most: int, *, shown: bool) -> None:
    """Check that rows of other scales and signs, as far as accepted, do not change results.

    Raises:
        ModelRefused: They change a result.
    """
    # If the graph is not shown, an integer may be an amount of computation.
    spreads = samples.SPREADS if shown else samples.SPREADS[1:]
    for spread in spreads:
        source = np.random.default_rng(SEED)
        try:
            for count in (min(count, most) for count in MIXED_COUNTS):
                sizes = {name: (count, *shape[1:]) for name, shape in shapes.items()}
                tensors = samples.mixed(model.inputs, sizes, source, spread)
                compared = set(sampled(count)) - samples.special_rows(count, spread)
                _prove_rows(model, tensors, sorted(compared))
        except ModelFailed:
            continue
        return


def _measure(model: RepositoryModel, drawn: Callable[[int], Tensors], most: int) -> None:
    """See that rows together take much less time than the same alone.

    Raises:
        ModelRefused: They do not, or the proof would take too long.
    """
    alone = seconds_of(model, drawn(1))
    if alone * most > SECONDS_OF_PROOF:
        raise ModelRefused(f"a run takes {alone:.2g} seconds, and the proof {most} of them")
    together = seconds_of(model, drawn(MEASURED_ROWS))
    if together >= PAYS_BELOW * MEASURED_ROWS * alone:
        times = f"{together / alone:.1f} times as long as one"
        raise ModelRefused(f"it does not pay, {MEASURED_ROWS} rows take {times}")


def _refuse_doubtful(model: RepositoryModel, config: Config, unshown: str) -> None:
    """Refuse automatic batching of models that may not be row-wise."""
    if unshown:
        raise ModelRefused(unshown)
    if config.warmup is None:
        raise ModelRefused("it is not to be run before it is served")
    if len(model.inputs) > 1 and None in {model.symbols[port.name][0] for port in model.inputs}:
        raise ModelRefused("nothing says that its inputs have equally many rows")


def _refuse_closed(model: RepositoryModel) -> None:
    if not model.inputs or model.optional:
        raise ModelRefused("it has no inputs, or such as may be left out")
    ports = {port.name: port for port in (*model.inputs, *model.outputs)}
    for port in ports.values():
        if port.name in model.unranked or not port.shape or port.shape[0] != ANY:
            raise ModelRefused(f"the first size of {port.name} is not open")
    if len({model.symbols[port.name][0] for port in model.inputs} - {None}) > 1:
        raise ModelRefused("its inputs may have different numbers of rows")


def _prove_rows(model: RepositoryModel, tensors: Tensors, compared: list[int]) -> None:
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
            raise ModelRefused(f"{name} has not a row for each row of the inputs")
        if not equal_within_an_ulp(np.concatenate(alone), result[compared]):
            raise ModelRefused(f"{name} of {count} rows together differs from that of each alone")


def sampled(count: int) -> list[int]:
    """Which of so many rows are compared: the first, the last, and some of those between."""
    if count <= COMPARED_ROWS:
        return list(range(count))
    source = np.random.default_rng(SEED)
    between = source.choice(np.arange(1, count - 1), COMPARED_ROWS - 2, replace=False)
    return [0, *sorted(between.tolist()), count - 1]


def equal_within_an_ulp(exact: Array, other: Array) -> bool:
    """Whether each number is the same, or the next to it."""
    if exact.shape != other.shape:
        return False
    same = exact == other
    if exact.dtype.kind not in "iubO":
        for end in (-np.inf, np.inf):
            same |= np.nextafter(exact, exact.dtype.type(end)) == other
        same |= np.isnan(exact) & np.isnan(other)
    return bool(np.all(same))


def seconds_of(model: RepositoryModel, tensors: Tensors) -> float:
    """How long a run takes when nothing disturbs it."""
    best, began, runs = float("inf"), time.perf_counter(), 0
    while runs < FEWEST_RUNS or (runs < MAX_RUNS and time.perf_counter() - began < SECONDS_OF_RUNS):
        start = time.perf_counter()
        model.run(tensors, model.output_names, {})
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best

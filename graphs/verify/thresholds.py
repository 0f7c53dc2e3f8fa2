"""Thresholds of the verification: tolerances, noise of the model, choice of inputs, limits.

Each constant has its evidence: a measurement, a rule of the standard, or the case that asked for
it. ADR 33 and docs/graphs.md describe the rules that use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Tolerances.

# A rewrite may round otherwise at each activation, and later nodes carry that on. In float32,
# networks of a hundred layers whose SiLUs were fused and run by the kernels differ by up to 6e-6 of
# the scale of their output. An activation that is mistaken for its neighbour differs by more than
# 1e-4: GELU from its tanh form by 5e-4, and α = 1.702 from 1.7. In float64, 1e-10 still tells a π
# of float32, which is off by 2.8e-8, from one of float64.
RELATIVE: Mapping[str, float] = MappingProxyType(
    {"complex128": 1e-10, "float64": 1e-10, "complex64": 1e-4, "float32": 1e-4, "float16": 1e-2}
)
"""Default of `Allowance.rtol` by dtype; bfloat16 and shorter floats get `ROUNDINGS`."""

# ONNX defines Gelu and HardSwish by functions with constants of float32, so that the original is
# itself off by about 1e-8 of the number.
COARSE = 1e-6
"""Default for float64 if an operator computes with float32 constants; see `coarse_operators`."""

# Kernels and function bodies of one activation differ by up to 1e-6 of the scale, given equal
# inputs. Twenty times as much is still a twenty-fifth of what tells GELU from its tanh form.
TIGHT = 2e-5
"""Default for a changed part in float32, which is compared on equal inputs."""

# With so few digits the roundings count that a graph has and a fused operator has not: one for
# each operator of the graph.
ROUNDINGS = 4
"""Tolerance of bfloat16 and shorter floats, and least one of a slice, in machine epsilons."""

# The root of the mean square of a few elements may be small by chance.
MIN_SLICE = 8
"""Least number of elements of a slice that has a scale of its own."""

# A sum of terms near the largest number may overflow in one order of its terms only.
OVERFLOW_SHARE = 1e-3
"""Share of the largest number beyond which an infinity counts as overflow, not as an error."""

# Noise of the original: its change when floats move to a neighbour.

# A rewrite rounds several times where one step of the input moves a value once. An α of 1.7 for
# 1.702 is 10,000 steps off in float32, so that the factor hides no wrong constant.
NOISE = 16.0
"""Multiple of the original's own change up to which a difference counts as rounding."""

# The first run moves every float up, the others at random: at a tie a quantised value changes in
# one direction only.
NUDGES = 4
"""Runs of the original with moved floats."""

# `TIGHT` is 170 steps of float32: a part that uses its whole tolerance is not moved by all of it.
MAX_STEPS = 64
"""Largest number of steps by which results of changed parts are moved."""

# Choice of inputs.

# With the ranges of numbers these make about twelve cases.
MAX_SHAPES = 4
"""Sets of shapes that are tried with normal numbers, of those that the model takes."""

# Special numbers of several inputs have to meet each other. Images of 3·48·2 pixels had too few.
ENOUGH = 1024
"""Elements of all inputs together that suffice for each range of numbers."""

# Batches of 32 images, in eight of twelve cases, took eight times the time of all other cases.
MAX_RATIO = 8
"""Multiple of the smallest sufficient shapes beyond which shapes are skipped."""

# Values inside are run once more with all of them as outputs, which turns fusions off.
MAX_INNER_CASES = 2
"""Cases on which values inside the graphs are compared."""

SPECIAL_SHARE = 0.25
"""Share of special numbers in a case of them; the others are normal numbers."""

# e^-30 is 1e-13: sigmoid and tanh are saturated in float32.
LARGE = 30.0
"""Scale of normal numbers in the case of large ones."""

SMALL_DEFAULT = 64
"""Largest number of elements of a default that is varied; a larger one is a table of weights."""

MAX_COMPARED = 16
"""Largest number of constants compared with an input that count as thresholds, not as a table."""

# Limits of time and memory.

MAX_ELEMENTS = 1 << 26
"""Limit on elements of one generated input: 256 MiB of float32."""

# A model of 1.2 MB took 4.5 GB while its ranges were tried in batches of 32.
MAX_CASE_BYTES = 1 << 30
"""Memory that a case may take beyond the loaded model; the first case may take more."""

MAX_FAILURES = 3
"""Cases that the rewritten model refuses, after which no further case is run."""

TIMEOUT = 120.0
"""Default limit on one run of a model, in seconds."""

BUDGET = 60.0
"""Default limit on all cases together, in seconds."""

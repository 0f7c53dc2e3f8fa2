"""Thresholds of the analysis and recognition of graphs, each with its evidence.

This module is the only home of these numbers. Tolerances are relative unless the text says
otherwise.

Two kinds of evidence were measured in November 2026, over the spellings that the tests of
recognition draw. "Measured" is the largest value that a found activation needs, over 65 spellings
in float16, float32 and float64. "Varied" are the sites that change if the threshold alone is
changed.
"""

from __future__ import annotations

# Comparison of an expression with a formula, in float64.

TOLERANCE = 1e-12
"""Error of float64 in an expression without cancellation.

Measured: 1.1e-14, for sinc next to a zero of the sine. Larger by far: a float64 sinc whose π is a
float32, as torch.onnx.export writes it, is off by 2.8e-8 and must be no sinc (ADR 18). Varied:
1e-15 to 1e-10 change no site.
"""

MAX_CANCELLATION = 1e-12
"""Absolute error that cancellation may cause for ``|x|`` up to 1; it grows with ``|x|``.

Measured: 2.1e-16. It is a limit on the noise that is measured for each expression, not an error
that is allowed everywhere: as such, ``max(relu(x), 1e-12)`` was once taken for a ReLU, and a fusion
removed what kept a logarithm from 0. Varied: 1e-15 to 1e-9 change no site.
"""

SMALLEST = 1e-300
"""Absolute error near 0.

Below 2.2e-308, float64 loses digits, so relative errors have no bound there. Larger by far: a guard
of 1e-30 would be part of an activation.
"""

CONSTANTS_ROUNDOFF = 1.05
"""Factor on the rounding errors of constants, whose effects are added to first order only.

Varied: at 0.5, a float16 sinc is lost, as its π is off by 0.63 of the largest rounding error. At
20, GELU with 1.4142 for √2, with 0.0447 for 0.044715, and sinc with 3.1416 still are not found.
"""

RANGE_TOLERANCE = 1e-6
"""Error at powers of ten up to 1e38, where an argument of a sine has lost its digits.

Measured: 1.8e-16, apart from that loss. A function that differs there does so by far: Swish plus
``1e-30 · x⁸`` is not found even at 1. Varied: 1e-13 to 1 change no site.
"""

SCREENING_TOLERANCE = 0.05
"""Absolute difference from a formula, at four points, up to which both are compared closely.

It saves time and decides nothing: at 100 no site changes. Varied: at 1e-9, GELU of float32 and sinc
of float16 are lost to the rounding of their constants, which in bfloat16 is 2⁻⁸.
"""

EQUAL_OPERANDS = 1e-9
"""Difference up to which the operands of `Equal` count as equal.

An operand that is computed misses the constant by some 1e-16; the usual points differ by 0.025 or
more. Varied: 0 to 1e-3 change no site.
"""

NAMED_FUNCTION = 1e-3
"""Relative and absolute error of a function of our domain that must agree with its name.

Far above the rounding of constants in float32, 6e-8. Another function differs by far more at one of
19 points.
"""

# Constants that hide in rounding.

GUARD_SIZE = 1e-9
"""Magnitude below which a constant may be a guard that rounding hides.

``½(1 + tanh(x/2)) + 1e-30`` equals the sigmoid within the noise of its cancellation. Varied: at
1e-31, guards of 1e-30 become part of a sigmoid and a softplus, which a logarithm follows; at 1e-3
no site changes.
"""

GUARD_EFFECT = 1e-11
"""Change of a result from which a guard counts.

More than `TOLERANCE`, so that rounding is no effect. Where a guard acts, the result is 0 without
it, so the change is 1. Varied: 1e-16 to 1e-2 change no site.
"""

SNAKE_GUARD = 1.001e-9
"""Largest difference between α and β of Snake.

Implementations divide by ``α + 1e-9``; the last digit allows for rounding. Varied: at 0, such a
Snake of α = 0.3 is a SnakeBeta of β = 0.300000001.
"""

# Estimation of real parameters.

FLAT_SLOPE = 1e-6
"""Slope below which a parameter counts as 0.

Varied: at 1e-300, ``x · σ(1e-7 x)`` is a Swish, though its gate is 1/2 in float32 for ``|x|`` up to
1. At 0.02, LeakyReLU of its default 0.01 is lost.
"""

GATE_RANGE = (0.01, 0.99)
"""Values of a sigmoid from which its argument is computed.

The error of ``logit(g)`` is that of g times ``1 / (g(1 - g))``: 101 at these ends. Varied: at 1e-15
and 1 - 1e-15, a Swish of α = 30 is lost; at 0.3 and 0.7 no site changes.
"""

FITTED = 1e-11
"""Error of an estimated parameter, up to which it is replaced by a constant of the graph.

An estimate is exact to some 1e-14 times 101 (`GATE_RANGE`). Neighbours in float32 differ by 6e-8.
Varied: at 1e-4, the α of a Swish that divides by a float32 1/1.702 changes from 1.701999948 to
1.7019999.
"""

OWN_NUMBER = 1e-6
"""Error with which CELU's curve must fit a number of the graph.

Numbers of float32 are off by 6e-8. The fit only chooses a candidate, which is compared afterwards.
Varied: at 1e-16, CELU of 1.5 is lost; at 0.1 no site changes.
"""

WAVE_FIT = 1e-5
"""Error of the second sample that must fit Snake's parameters.

As `OWN_NUMBER`, for a sample that depends on the square of a sine.
"""

STEEP = (0.5, 2.0)
"""Slopes for which the usual points are dense enough.

Others are compared at points that are scaled by the slope, too: at a slope of 1000, the sigmoid is
curved within 0.04 of 0, where only seven of the usual points lie, five of them next to 0.
"""

# Constants in the graph.

FEW_BITS = 0.5
"""Share of a dtype's bits below which a number is exact in every dtype, such as 0.5 or 3.

A number of more bits, such as 1.702, may be another one that was rounded. Varied: at 1, all numbers
are exact, and sinc and GELU of 16 bits and GELU by tanh are lost; at 0 no site changes.
"""

MAX_FLOAT32 = 3.4e38
"""Greatest number of float32, which is 3.4028e38, rounded down."""

MAX_EXACT_INTEGER = 1 << 24
"""Greatest integer up to which float32 holds all integers; no integer type of 32 bits overflows."""

MAX_CONSTANT_ELEMENTS = 1 << 24
"""Size from which a tensor is taken for weights, and is not read: 64 MiB of float32."""

MAX_CONSTANT_DEPTH = 16
"""Number of nodes that are followed from a value to a constant; exporters write two or three.

The test of constants with many paths has 14, which are found, and 28, which are not.
"""

# Integers and shapes.

MAX_SHAPE_ELEMENTS = 64
"""Size of the largest tensor that may be a shape: NumPy has at most 64 axes."""

MAX_INTEGER_DEPTH = 16
"""Number of nodes that are followed from a value to a shape.

Half of an axis, as TorchScript's exporter writes it, takes five: Shape, Gather, Add, Div and Mul.
"""

MAX_SHAPE_DEPTH = 12
"""Number of nodes that are followed to show that two shapes are equal by construction."""

MAX_SHAPE_BYTES = 1024
"""Largest tensor that inference reads: a shape of 64 axes takes 512 bytes of int64."""

# Error of float64, measured by evaluation with larger errors.

NUDGE = 2.0**-43
"""Size of the random errors.

Far above float64's own rounding of 2⁻⁵³, which would disturb the measurement, and far below
everything that an activation does.
"""

NUDGE_TRIALS = 6
"""Number of evaluations with random errors; their largest effect counts."""

OPERATOR_ROUNDOFF = 16.0
"""Error of one operator in units of 2⁻⁵³: library functions err by several.

Varied: at 0.1, a sigmoid by tanh and Mish are lost; at 10,000 no site changes, since the noise that
is allowed is limited by `MAX_CANCELLATION`.
"""

# Branch points.

MAX_CROSSINGS = 64
"""Largest number of branch points of an expression, and of extremes near zero.

Measured: 4 changes of sign, at the two kinks of HardSwish by two ReLUs. The limit bounds the time
for functions that oscillate. Varied: at 2, HardSwish and a sinc with a guard are lost.
"""

DIP = 1e-3
"""Depth of a dip from which a difference may reach zero between two grid points.

To reach 0 within a step, a smooth difference must bend by about its own size, a depth of 1.
"""

BISECTIONS = 64
"""Number of halvings around a crossing: more than the 53 bits of float64, so none is left over."""

EXTREME_STEPS = 14
"""Number of subdivisions around an extreme; each narrows it to a quarter: 4e-9 in all."""

EXTREME_PARTS = 9
"""Number of points in each subdivision."""

LINEAR = 1e-9
"""Deviation from a line up to which the zero of a difference is computed, not searched.

A line that was computed in float64 deviates by some 1e-16, a curve of any activation by far more.
"""

ZERO = 1e-15
"""Absolute value of a computed zero below which it is 0: the rounding error of numbers near 1."""

# Size of the search.

MAX_EXPRESSION_NODES = 220
"""Number of nodes in an expression, those in called functions included.

Our own functions for float64, which do without Erf, have the most: about 150.
"""

MAX_CALL_DEPTH = 16
"""Depth of nested function calls; the tests have 8, which are followed, and 400, which are not."""

MAX_PENDING = 8
"""Number of values that an expression depends on at one time during the search."""

MAX_SOURCES = 16
"""Number of values that are tried as the input of an expression."""

MAX_PRODUCT_SOURCES = 4
"""The same for a product, whose other factors depend on one of them, except for casts."""

MAX_FACTORS = 3
"""Number of factors of a gated unit: SwiGLU has ``a``, ``σ(a)`` and ``b`` or ``b · σ(b)``."""

MAX_PRODUCTS = 32
"""Number of ways to take a product apart."""

MAX_WEIGHT_DEPTH = 4
"""Number of nodes between a value and its product with weights."""

# One parameter per channel.

MAX_ROW_ELEMENTS = 1 << 16
"""Size of the largest tensor that may be a row of parameters."""

MAX_ROW_DEPTH = 8
"""Number of nodes between a weight and the value that is multiplied by it."""

MAX_CHANNEL_NODES = 24
"""Number of nodes that are searched for weights and a nonlinear operator."""

CHANNEL_FIT = 1e-6
"""Error with which a row of weights must hold the parameters of the channels: float32 has 6e-8."""

# Near misses.

MEANT_CONSTANT = 0.03
"""Error up to which a constant was probably meant as one of the catalogue's.

Wrong constants in the tests are off by 2e-6 (3.1416 for π) to 4e-4 (0.1666 for 1/6). Beyond 0.045,
3 would be taken for π, and 1/π for 1/3.
"""

MAX_MISSED_EXPRESSIONS = 8
"""Number of expressions per node that are searched for near misses."""

MAX_MISSED_NODES = 40
"""Number of nodes in such an expression."""

MAX_MISSED_TRIALS = 16
"""Number of corrections that are tried in such an expression: each takes a whole comparison."""

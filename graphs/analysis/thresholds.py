"""Thresholds of the analysis and recognition of graphs, each with its evidence.

This module is the only home of these numbers. Sizes are counts; tolerances are relative unless the
name or the text says otherwise. "Sites" below are those of the models that the tests draw.
"""

from __future__ import annotations

# Comparison of an expression with a formula, in float64.

TOLERANCE = 1e-12
"""Relative error of float64 in an expression without cancellation."""

MAX_CANCELLATION = 1e-12
"""Absolute error that cancellation may cause for ``|x|`` up to 1; it grows with ``|x|``."""

SMALLEST = 1e-300
"""Absolute error near 0: below 2.2e-308, float64 loses digits."""

CONSTANTS_ROUNDOFF = 1.05
"""Factor on the rounding errors of constants, since their effects are only known to first order."""

RANGE_TOLERANCE = 1e-6
"""Relative error at powers of ten up to 1e38."""

SCREENING_TOLERANCE = 0.05
"""Absolute difference from a formula up to which an expression is compared closely."""

EQUAL_OPERANDS = 1e-9
"""Relative difference up to which the operands of `Equal` count as equal."""

NAMED_FUNCTION = 1e-3
"""Relative and absolute error of a function of our domain that must agree with its name."""

# Constants that hide in rounding.

GUARD_SIZE = 1e-9
"""Magnitude below which a constant may be a guard that rounding hides."""

GUARD_EFFECT = 1e-11
"""Relative change of a result from which a guard counts."""

SNAKE_GUARD = 1.001e-9
"""Largest difference between α and β of Snake, whose implementations divide by ``α + 1e-9``."""

# Estimation of real parameters.

FLAT_SLOPE = 1e-6
"""Slope below which a parameter counts as 0."""

GATE_RANGE = (0.01, 0.99)
"""Values of a sigmoid from which its argument is computed."""

FITTED = 1e-11
"""Relative error of an estimated parameter."""

OWN_NUMBER = 1e-6
"""Relative error with which CELU's curve must fit a number of the graph."""

WAVE_FIT = 1e-5
"""Relative error of the second sample that must fit Snake's parameters."""

STEEP = (0.5, 2.0)
"""Slopes for which the usual points are dense enough; others are compared at scaled points, too."""

# Constants in the graph.

FEW_BITS = 0.5
"""Share of a dtype's bits below which a number is exact in every dtype, such as 0.5 or 3."""

MAX_FLOAT32 = 3.4e38
"""Greatest number of float32, rounded."""

MAX_EXACT_INTEGER = 1 << 24
"""Greatest integer up to which float32 holds all integers."""

MAX_CONSTANT_ELEMENTS = 1 << 24
"""Size from which a tensor is taken for weights, and is not read."""

MAX_CONSTANT_DEPTH = 16
"""Number of nodes that are followed from a value to a constant."""

# Integers and shapes.

MAX_SHAPE_ELEMENTS = 64
"""Size of the largest tensor that may be a shape."""

MAX_INTEGER_DEPTH = 16
"""Number of nodes that are followed from a value to a shape."""

MAX_SHAPE_DEPTH = 12
"""Number of nodes that are followed to show that two shapes are equal by construction."""

MAX_SHAPE_BYTES = 1024
"""Largest tensor that inference reads; larger ones are left out of the copy that it works on."""

# Error of float64, measured by evaluation with larger errors.

NUDGE = 2.0**-43
"""Relative size of the random errors."""

NUDGE_TRIALS = 6
"""Number of evaluations with random errors."""

OPERATOR_ROUNDOFF = 16.0
"""Error of one operator in units of 2⁻⁵³."""

# Branch points.

MAX_CROSSINGS = 64
"""Largest number of branch points of an expression, and of extremes near zero."""

DIP = 1e-3
"""Relative depth of a dip from which a difference may reach zero between two grid points."""

BISECTIONS = 64
"""Number of halvings of the interval around a crossing."""

EXTREME_STEPS = 14
"""Number of subdivisions of the interval around an extreme."""

EXTREME_PARTS = 9
"""Number of points in each subdivision."""

LINEAR = 1e-9
"""Relative deviation from a line up to which the zero of a difference is computed exactly."""

ZERO = 1e-15
"""Absolute value of a computed zero below which it is 0."""

# Size of the search.

MAX_EXPRESSION_NODES = 220
"""Number of nodes in an expression, those in called functions included."""

MAX_CALL_DEPTH = 16
"""Depth of nested function calls."""

MAX_PENDING = 8
"""Number of values that an expression depends on at one time during the search."""

MAX_SOURCES = 16
"""Number of values that are tried as the input of an expression."""

MAX_PRODUCT_SOURCES = 4
"""The same for a product."""

MAX_FACTORS = 3
"""Number of factors of a gated unit."""

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
"""Relative error with which a row of weights must hold the parameters of the channels."""

# Near misses.

MEANT_CONSTANT = 0.03
"""Relative error up to which a constant was probably meant as one of the catalogue's."""

MAX_MISSED_EXPRESSIONS = 8
"""Number of expressions per node that are searched for near misses."""

MAX_MISSED_NODES = 40
"""Number of nodes in such an expression."""

MAX_MISSED_TRIALS = 16
"""Number of corrections that are tried in such an expression."""

"""Operators of a graph that can end or block their process.

ONNX Runtime checks most values that a request sets: indices, shapes, divisors of 0. It does not
check the cases below. They were found by running every operator of the standard domains on hostile
values, in a process each, with ONNX Runtime 1.32:

=====================================  ============================================================
operator, and what the request gives   what happens
=====================================  ============================================================
Div, INT32 and INT64                   smallest number divided by -1: SIGFPE. A divisor of 0 and
                                       narrower types are errors or results.
Mod, INT32 and INT64                   the same instruction; 1.32 tells -1 apart, others may not.
STFT, a frame of length 0              SIGFPE
Conv, ConvInteger and the like,        never ends, and looks at no flag: one node computes
a kernel of size 0                     for ever
LSTM and GRU, a batch without rows,    SIGABRT
and GRU, a sequence without steps
Unique along an axis, no elements;     SIGABRT
FeatureVectorizer, no rows
RoiAlign, adaptive sampling of a huge  SIGABRT, or many gigabytes of samples
region
NonMaxSuppression, hundreds of         one node computes for minutes or hours, and looks at no
thousands of boxes, which it may keep  flag: each box is compared with each that is kept
Loop, no bound on its trips            never ends; ends at the border of a node when it is told to
com.microsoft: SkipLayerNormalization  skip without rows: SIGFPE; Inverse without columns:
                                       SIGSEGV. Operators of this domain check
                                       less, so that only those that were tried count as safe.
=====================================  ============================================================

The analysis shows that a graph is safe. Each node that it cannot show to be safe is a hazard, and
with ``isolation: auto`` the model then runs in a process of its own. The trial before a model is
served covers the values that do not depend on requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatewave.service.codecs.datatypes import BOOL, FLOAT, INT32, INT64
from gatewave.service.codecs.wire import MalformedError
from gatewave.service.onnx.proto import MAX_ELEMENTS, File, GraphProto, NodeProto, TensorProto

MAX_DEPTH = 100
"""Nesting depth of graphs and functions beyond which a file is not analysed."""
MAX_TRIPS = 1 << 20
"""Trip count up to which a loop counts as bounded."""
MAX_KEPT = 1 << 12
"""Boxes of a class up to which NonMaxSuppression ends soon, whatever it is given."""
OVERRIDABLE_SINCE = 4
"""Format version from which an initializer that is also an input is only a default."""
TRAPPING = {INT32: "INT32", INT64: "INT64"}

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.gatewave"})
"""Domains whose operators were tested; Gatewave's operators compute element by element."""
CONTRIBUTED = "com.microsoft"
TRIED = frozenset({"BiasGelu", "CDist", "DynamicQuantizeMatMul", "QuickGelu", "Trilu", "Unique"})
"""Operators of ONNX Runtime's own domain that were tested without a failure."""

KERNELS = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3, "DeformConv": 1}
"""Operators with a kernel, and the index of that input."""

SIZES = frozenset({"Shape", "Size", "NonZero", "ArgMax", "ArgMin"})
"""Operators whose results are non-negative integers, as INT64."""
LIKE_FIRST = frozenset(
    {"Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Flatten", "Transpose"}
)
"""Operators whose results consist of elements of their first input."""
FLOATING = frozenset(
    {
        *("Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Sin", "Cos"),
        *("Reciprocal", "Floor", "Ceil", "Softplus", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN"),
        *("AveragePool", "GlobalAveragePool", "BatchNormalization", "InstanceNormalization"),
        *("LayerNormalization", "GroupNormalization", "DequantizeLinear"),
        *("Elu", "Selu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "RandomNormal", "Round"),
        *("RandomUniform", "LpNormalization", "GlobalMaxPool", "Tan", "Atan", "Asin", "Acos"),
    }
)
"""Operators whose first result is of a floating-point type, whatever their inputs are."""
GRAPH_OWNERS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators with graphs of their own."""
BOOLEAN = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or"})
SAME = frozenset(
    {
        *LIKE_FIRST,
        *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Neg", "Abs", "Sign", "Relu", "LeakyRelu"),
        *("PRelu", "Clip", "Min", "Max", "Sum", "Mean", "MatMul", "Gemm", "Einsum", "CumSum"),
        *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"),
        *("ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "MaxPool", "Concat"),
        *("Erf", "Split", "Pad"),
        *("Tile", "Expand", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Resize"),
        *("TopK", "Upsample", "Dropout", "DepthToSpace", "SpaceToDepth", "Trilu", "GridSample"),
        *("ReverseSequence", "Compress", "LRN", "Hardmax", "MeanVarianceNormalization"),
        *("RoiAlign", "Col2Im", "GlobalLpPool", "LpPool", "Unique", "Range"),
    }
)
"""Operators whose first result has the element type of their first input."""


@dataclass(frozen=True, slots=True)
class Known:
    """Facts about a tensor that hold for every request.

    Attributes:
        kind: The number of its element type in ONNX; 0 if unknown.
        is_fixed: Whether no request changes it.
        is_size: Whether it holds sizes of tensors: non-negative integers, bounded by memory.
        values: Its elements, if they are known, few, and integers.
    """

    kind: int = 0
    is_fixed: bool = False
    is_size: bool = False
    values: tuple[int, ...] | None = None


UNKNOWN = Known()
Names = dict[str, Known]
Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


class HazardError(Exception):
    """A node can end or block its process; the message names it."""


def hazard_of(data: bytes) -> str:
    """Return the reason why the ONNX file with the bytes ``data`` may end or block its process."""
    try:
        _Analysis(File(data)).run()
    except HazardError as hazard:
        return str(hazard)
    except (MalformedError, ValueError) as error:
        return f"its graph cannot be analysed: {error}"
    return ""


class _Analysis:
    """One pass over the nodes of a file, in topological order."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.model = file.model()
        self.called: dict[tuple[Key, tuple[Known, ...]], tuple[Known, ...]] = {}

    def run(self) -> None:
        self._graph(self.model.graph, {}, MAX_DEPTH)

    def _graph(self, graph: GraphProto, names: Names, depth: int) -> None:
        """Add the tensors of a graph to ``names``, and check that its nodes are safe."""
        if not depth:
            raise HazardError(f"it nests deeper than {MAX_DEPTH} graphs")
        names |= {tensor.name: _known(tensor) for tensor in graph.tensors}
        initialized = {tensor.name for tensor in graph.tensors}
        for port in graph.inputs:
            # A request may replace the value of an initializer that is also an input.
            if self.model.version >= OVERRIDABLE_SINCE or port.name not in initialized:
                names[port.name] = Known(port.kind)
        self._nodes(graph.nodes, names, depth)

    def _nodes(self, nodes: Sequence[NodeProto], names: Names, depth: int) -> None:
        """Check that the nodes are safe, and add the facts about their results to ``names``."""
        for node in nodes:
            given = [names.get(name, UNKNOWN) for name in node.inputs]
            results = self._results(node, given, names, depth)
            names.update(zip(node.outputs, results, strict=False))

    def _results(
        self, node: NodeProto, given: list[Known], names: Names, depth: int
    ) -> Sequence[Known]:
        """Check that ``node`` is safe; return what is known of its results.

        Raises:
            HazardError: The node may not be safe.
        """
        key = (node.domain, node.operator, node.overload)
        if key in self.model.functions:
            return self._call(key, tuple(given), depth)
        if node.domain == CONTRIBUTED and node.operator not in TRIED:
            raise _hazard(node, f"of {CONTRIBUTED} does not check all that it is given")
        if node.domain not in {*STANDARD, CONTRIBUTED}:
            raise _hazard(node, f"of {node.domain} is a custom operator")
        check = CHECKS.get(node.operator)
        if check is not None:
            check(node, given)
        graphs = [graph for a in node.attributes.values() for graph in a.graphs]
        if node.operator in GRAPH_OWNERS and not graphs:
            raise _hazard(node, "takes its graph from the call of a function")
        for graph in graphs:
            self._graph(self.file.graph(graph), dict(names), depth - 1)
        # Random numbers differ between runs, and a graph may read values that requests set.
        fixed = not graphs and all(known.is_fixed for known in given)
        first = _first(node, given, fixed=fixed)
        others = Known(first.kind if node.operator == "Split" else 0, fixed)
        return [first, *[others] * (len(node.outputs) - 1)]

    def _call(self, key: Key, given: tuple[Known, ...], depth: int) -> tuple[Known, ...]:
        """Check that the body of a function is safe with these arguments."""
        if not depth:
            raise HazardError(f"it nests deeper than {MAX_DEPTH} functions")
        if (key, given) not in self.called:
            function = self.model.functions[key]
            names = dict(zip(function.inputs, given, strict=False))
            self._nodes(function.nodes, names, depth - 1)
            results = tuple(names.get(name, UNKNOWN) for name in function.outputs)
            self.called[key, given] = results
        return self.called[key, given]


def _hazard(node: NodeProto, what: str) -> HazardError:
    """Return an error that names the node and tells how it can end or block the process."""
    result = next((name[:40] for name in node.outputs if name), "no result")
    called = f"node {node.name[:40]}" if node.name else f"the node that gives {result}"
    return HazardError(f"{called} ({node.operator}) {what}")


def _known(tensor: TensorProto) -> Known:
    """Return the facts about an initializer, with its values if they are few integers."""
    if tensor.elements is None or tensor.kind not in TRAPPING:
        return Known(tensor.kind, is_fixed=True)
    return Known(tensor.kind, is_fixed=True, values=tuple(map(int, tensor.elements)))


def _first(node: NodeProto, given: list[Known], *, fixed: bool) -> Known:
    """Return what is known of the first result of a node of a standard operator."""
    operator, first = node.operator, given[0] if given else UNKNOWN
    if operator == "Constant":
        return _constant(node)
    if operator in SIZES:
        return Known(INT64, fixed, is_size=True)
    if operator == "Cast":
        return _cast(first, _number(node, "to"), fixed=fixed)
    if operator in LIKE_FIRST:
        return Known(first.kind, fixed, first.is_size, first.values)
    is_size = operator == "Concat" and all(map(_counts, given))
    return Known(_kind(node, given), fixed, is_size)


def _cast(given: Known, kind: int, *, fixed: bool) -> Known:
    """Return the facts about the result of a Cast to the element type ``kind``."""
    # A narrower type keeps neither sizes nor values.
    kept = kind == INT64 or (kind == INT32 and given.kind == INT32)
    return Known(kind, fixed, given.is_size and kept, given.values if kept else None)


def _kind(node: NodeProto, given: list[Known]) -> int:
    """Return the element type of the first result of a node; 0 if it is unknown."""
    operator, first = node.operator, given[0] if given else UNKNOWN
    if operator == "ConstantOfShape":
        value = node.attributes.get("value")
        # In a function the value may come from its call.
        return ((value.tensor or UNKNOWN) if value else Known(FLOAT)).kind
    if operator == "Where":
        return max(known.kind for known in given[1:]) if len(given) > 1 else 0
    if operator in SAME:
        return first.kind
    return FLOAT if operator in FLOATING else BOOL if operator in BOOLEAN else 0


def _constant(node: NodeProto) -> Known:
    """Return the facts about the result of a Constant node."""
    for name, attribute in node.attributes.items():
        if attribute.reference:  # The call of the function sets the value.
            return Known(0, is_fixed=True)
        if name == "value" and attribute.tensor is not None:
            return _known(attribute.tensor)
        if name == "value_int":
            return Known(INT64, is_fixed=True, values=(attribute.integer,))
        if name == "value_ints":
            few = len(attribute.integers) <= MAX_ELEMENTS
            return Known(INT64, is_fixed=True, values=attribute.integers if few else None)
        if name in {"value_float", "value_floats"}:
            return Known(FLOAT, is_fixed=True)
    return Known(0, is_fixed=True)


def _counts(known: Known) -> bool:
    """Return whether a tensor holds sizes, or constants that are possible sizes."""
    return known.is_size or (known.values is not None and all(v >= 0 for v in known.values))


def _number(node: NodeProto, name: str) -> int:
    """Return an integer attribute; 0 if the node has none of that name."""
    attribute = node.attributes.get(name)
    return attribute.integer if attribute is not None else 0


def _divides(node: NodeProto, given: list[Known]) -> None:
    """Check that no element is divided by -1, or that the type cannot trap."""
    kinds = {known.kind for known in given} - {0}
    if kinds and not kinds & TRAPPING.keys():
        return
    divisor = given[1] if len(given) > 1 else UNKNOWN
    if divisor.is_size or (divisor.values is not None and -1 not in divisor.values):
        return
    kind = next((TRAPPING[kind] for kind in kinds if kind in TRAPPING), "a type not shown")
    raise _hazard(node, f"on {kind} can trap")


def _frames(node: NodeProto, given: list[Known]) -> None:
    """Check that no request sets the frame length of STFT: a length of 0 is divided by."""
    length = given[3] if len(given) > 3 else Known(is_fixed=True)  # noqa: PLR2004
    if not length.is_fixed or (len(given) > 2 and not given[2].is_fixed and node.inputs[2]):  # noqa: PLR2004
        raise _hazard(node, "can trap: a request decides the length of its frames")


def _convolves(node: NodeProto, given: list[Known]) -> None:
    """Check that no request sets the kernel: a kernel of size 0 never ends."""
    position = KERNELS[node.operator]
    if len(given) <= position or not given[position].is_fixed:
        raise _hazard(node, "may never end: a request decides its kernel")


def _recurs(node: NodeProto, given: list[Known]) -> None:
    """Check that no request can give an empty batch or sequence, which aborts the process."""
    if not given or not given[0].is_fixed:
        raise _hazard(node, "can trap: a request may give it no rows or no steps")


def _distinguishes(node: NodeProto, given: list[Known]) -> None:
    """Check that Unique along an axis gets elements; without any it aborts the process."""
    if "axis" in node.attributes and not (given and given[0].is_fixed):
        raise _hazard(node, "can trap: a request may give it no elements")


def _joins(node: NodeProto, given: list[Known]) -> None:
    """Check that FeatureVectorizer gets rows; without any it aborts the process."""
    if not all(known.is_fixed for known in given):
        raise _hazard(node, "can trap: a request may give it no rows")


def _samples(node: NodeProto, given: list[Known]) -> None:
    """Check that the number of samples in a region does not grow with the region."""
    regions = given[1] if len(given) > 1 else UNKNOWN
    if not regions.is_fixed and _number(node, "sampling_ratio") <= 0:
        raise _hazard(node, "can trap: the size of a region decides how often it samples")


def _suppresses(node: NodeProto, given: list[Known]) -> None:
    """Check that the number of boxes that are kept has a bound; without the input it is 0."""
    if len(given) <= 2 or not node.inputs[2]:  # noqa: PLR2004
        return
    kept = given[2].values
    if kept is None or any(value > MAX_KEPT for value in kept):
        raise _hazard(node, f"may take hours: it may keep more than {MAX_KEPT} boxes of a class")


def _loops(node: NodeProto, given: list[Known]) -> None:
    """Check that a loop ends: its trip count is a size of a tensor or a small constant."""
    trips = given[0] if given and node.inputs[0] else UNKNOWN
    few = trips.values is not None and all(value <= MAX_TRIPS for value in trips.values)
    if not (trips.is_size or few):
        raise _hazard(node, "has no bound on its trips")


CHECKS = {
    "Div": _divides,
    "Mod": _divides,
    "STFT": _frames,
    "LSTM": _recurs,
    "GRU": _recurs,
    "Unique": _distinguishes,
    "FeatureVectorizer": _joins,
    "RoiAlign": _samples,
    "NonMaxSuppression": _suppresses,
    "Loop": _loops,
    **dict.fromkeys(KERNELS, _convolves),
}

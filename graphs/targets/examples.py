"""Attributes and inputs that a valid node of an operator needs.

`nodes` makes a node from an operator's schema alone: its required inputs, of unknown shape, and its
required attributes. An entry here adds requirements that the schema does not state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

ATTRIBUTES: Mapping[str, Any] = MappingProxyType(
    dict(
        [
            *[("axes", [0]), ("axis", 0), ("blocksize", 2), ("direction", "LEFT"), ("ends", [1])],
            *[("equation", "ij->ji"), ("kernel_shape", [2]), ("num_groups", 1), ("k", 1)],
            *[("paddings", [0, 0]), ("pads", [0, 0]), ("pooled_shape", [1, 1]), ("shape", [2])],
            *[("scales", [1.0, 1.0]), ("size", 1), ("starts", [0]), ("num_scan_inputs", 1)],
            *[("min_gram_length", 1), ("max_gram_length", 1), ("max_skip_count", 0)],
            *[("mode", "TF"), ("ngram_counts", [0]), ("ngram_indexes", [0]), ("ngram_size", 1)],
            *[("q_num_heads", 1), ("kv_num_heads", 1), ("num_heads", 1), ("hidden_size", 4)],
            *[("block_size", 32), ("K", 32), ("N", 32), ("bits", 4), ("activation", "Relu")],
            *[("epsilon", 1e-5), ("scale", 1.0), ("groups", 1), ("channels_last", 0)],
        ]
    )
)
"""Values of required attributes, by name."""


@dataclass(frozen=True)
class Example:
    """Further attributes and inputs of a valid node.

    Attributes:
        attributes: Attributes besides the required ones.
        given: Optional inputs that are always given.
        inputs: Number of inputs of a variadic operator.
        shapes: Shapes of inputs, where the operator looks at them.
        constants: Values of inputs that must be constants, in their element type.
        outputs: Number of requested outputs.
        opsets: The first and the last opset that the entry is for.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[int] = frozenset()
    inputs: int | None = None
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    constants: Mapping[int, Any] = field(default_factory=dict)
    outputs: int | None = None
    opsets: tuple[int, int] = (1, 99)


EXAMPLES: Mapping[str, tuple[Example, ...]] = MappingProxyType(
    {
        "Concat": (Example(inputs=2),),
        "Einsum": (Example({"equation": "ij->ji"}, inputs=1),),
        "GRU": (Example({"hidden_size": 4}),),
        "LSTM": (Example({"hidden_size": 4}),),
        "Loop": (Example(given=frozenset({0, 1}), inputs=3),),
        "RNN": (Example({"hidden_size": 4}),),
        "RegexFullMatch": (Example({"pattern": "a.*"}),),
        "Resize": (Example(given=frozenset({2})),),
        "Scan": (Example(inputs=1),),
        "SequenceMap": (Example(inputs=1),),
        "TfIdfVectorizer": (Example({"pool_int64s": [1]}),),
        # Of ai.onnx.ml.
        "CategoryMapper": (Example({"cats_int64s": [0], "cats_strings": ["a"]}),),
        "DictVectorizer": (Example({"int64_vocabulary": [0]}),),
        "FeatureVectorizer": (Example({"inputdimensions": [1]}, inputs=1),),
        "LabelEncoder": (Example({"keys_int64s": [0], "values_int64s": [1]}),),
        "LinearClassifier": (Example({"coefficients": [1.0], "classlabels_ints": [0]}),),
        "LinearRegressor": (Example({"coefficients": [1.0]}),),
        "OneHotEncoder": (Example({"cats_int64s": [0]}),),
        "Scaler": (Example({"offset": [0.0], "scale": [1.0]}),),
        # Of com.microsoft.
        "AttnLSTM": (Example({"hidden_size": 4}),),
        "BiasSoftmax": (Example({"axis": 1, "is_inner_broadcast": 1}),),
        "DynamicQuantizeLSTM": (Example({"hidden_size": 4}),),
        "EmbedLayerNormalization": (Example(outputs=2),),
        "FusedGemm": (Example({"activation": "Relu"}),),
        "GroupNorm": (Example({"groups": 1, "activation": 0}),),
        "MatMulBnb4": (Example({"quant_type": 0}),),
        "QLinearReduceMean": (Example({"axes": [0], "keepdims": 1}),),
        "QLinearSoftmax": (Example({"opset": 13}),),
        "QuantizeBFP": (Example({"bfp_type": 0}),),
        "SkipGroupNorm": (Example({"groups": 1, "activation": 0}),),
    }
)
"""Examples by operator; the first with fitting opsets is used."""


def example(name: str, opset: int) -> Example:
    """Return the entry for the operator at ``opset``, or an empty one."""
    fitting = (e for e in EXAMPLES.get(name, ()) if e.opsets[0] <= opset <= e.opsets[1])
    return next(fitting, Example())

"""The activations this project knows. To add one: write its file, and name it here."""

from collections.abc import Mapping
from types import MappingProxyType

from models.activation import DTYPES, Activation, DType, Operator, Parameter, Tolerance
from models.glu import BILINEAR, GEGLU, PLAIN_GLU, REGLU
from models.sigmoid import SIGMOID
from models.sinc import SINC
from models.swiglu import SWIGLU
from models.swish import SWISH

__all__ = [
    "ACTIVATIONS",
    "DTYPES",
    "Activation",
    "DType",
    "Operator",
    "Parameter",
    "Tolerance",
]

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {a.name: a for a in (SINC, SWIGLU, SWISH, SIGMOID, PLAIN_GLU, BILINEAR, REGLU, GEGLU)}
)

"""The activations of this project. To add one: write its file, and add its record here."""

from collections.abc import Mapping
from types import MappingProxyType

from gatewave.models.activation import Activation, Operator
from gatewave.models.glu import BILINEAR, GEGLU, PLAIN_GLU, REGLU
from gatewave.models.sigmoid import SIGMOID
from gatewave.models.sinc import SINC
from gatewave.models.swiglu import SWIGLU
from gatewave.models.swish import SWISH

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {a.name: a for a in (SINC, SWIGLU, SWISH, SIGMOID, PLAIN_GLU, BILINEAR, REGLU, GEGLU)}
)
"""Every record, by name, in the order in which the documentation lists them."""

CLASSES: Mapping[str, Operator] = MappingProxyType(
    {
        operator.class_name: operator
        for activation in ACTIVATIONS.values()
        for operator in activation.operators
    }
)
"""An operator of each class of Torch modules, by the name of the class."""

"""The activations of this project. To add one: write its file, and add its record here."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from gatewave.models.activation import Activation, Operator
from gatewave.models.glu import BILINEAR, GEGLU, PLAIN_GLU, REGLU
from gatewave.models.sigmoid import SIGMOID
from gatewave.models.sinc import SINC
from gatewave.models.swiglu import SWIGLU
from gatewave.models.swish import SWISH

Item = TypeVar("Item")


def by_name(items: Iterable[tuple[str, Item]]) -> Mapping[str, Item]:
    """Return ``items`` as a mapping.

    Raises:
        ValueError: Two of them have the same name.
    """
    found: dict[str, Item] = {}
    for name, item in items:
        if name in found:
            raise ValueError(f"two records or operators are called {name}: a name is used once")
        found[name] = item
    return MappingProxyType(found)


ACTIVATIONS: Mapping[str, Activation] = by_name(
    (a.name, a) for a in (SINC, SWIGLU, SWISH, SIGMOID, PLAIN_GLU, BILINEAR, REGLU, GEGLU)
)
"""Every record, by name, in the order in which the documentation lists them."""

OPERATORS: Mapping[str, tuple[Activation, Operator]] = by_name(
    (operator.op_type, (activation, operator))
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
)
"""Every operator of the records, with its record, by the operator's type in ONNX."""

CLASSES: Mapping[str, Operator] = MappingProxyType(
    {operator.class_name: operator for _, operator in OPERATORS.values()}
)
"""An operator of each class of Torch modules, by the name of the class."""

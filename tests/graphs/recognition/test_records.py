"""Kinds and operators that recognition derives from the records."""

from dataclasses import replace

import pytest
from records import CASES

from gatewave.graphs.recognition.kinds import KINDS, parts_of
from gatewave.graphs.recognition.operators import used_by
from gatewave.models import ACTIVATIONS
from gatewave.models.catalogue import OPERATORS

GATED = [kind.name for kind in KINDS.values() if kind.parts != (None, None)]


def made(value):
    return replace(OPERATORS["Sinc"][1], op_type="Made", value=value, partials=lambda _, x: (x,))


@pytest.mark.parametrize("name", GATED)
def test_factors_of_gated_units_are_derived(name):
    kind = KINDS[name]
    assert parts_of(kind.operator, kind.reals) == kind.parts


def test_underivable_record_asks_for_a_kind():
    with pytest.raises(NotImplementedError, match=r"Bilinear is not the product .* add a line"):
        parts_of(OPERATORS["Bilinear"][1], {})


def test_operator_without_method_is_accepted_from_numpy():
    arctangent = made(lambda op, x: op.Mul(op.Atan(x), x))
    assert used_by(ACTIVATIONS["sinc"], arctangent) == {"Atan", "Mul"}


def test_operator_unknown_to_numpy_asks_for_a_method():
    digamma = made(lambda op, x: op.Digamma(x))
    with pytest.raises(NotImplementedError, match=r"the record of Made: .* add a method Digamma"):
        used_by(ACTIVATIONS["sinc"], digamma)


def test_decomposition_must_compute_with_op():
    doubled = made(lambda op, x: op.Abs(2.0 * x))
    with pytest.raises(NotImplementedError, match=r"the record of Made: .* the operators of op"):
        used_by(ACTIVATIONS["sinc"], doubled)


def test_every_record_but_bilinear_has_a_kind():
    ours = {kind.operator.op_type for kind in KINDS.values() if kind.operator is not None}
    assert ours == {operator.op_type for _, operator in CASES.values()} - {"Bilinear"}


@pytest.mark.parametrize("name", [name for name in GATED if None not in KINDS[name].parts])
def test_units_of_two_factors_precede_others(name):
    # The product of two kinds also fits a unit that leaves one of its inputs unchanged.
    first, second = KINDS[name].parts
    fitting = [
        kind.name for kind in KINDS.values() if kind.parts in {(first, None), (None, second)}
    ]
    places = [*KINDS]
    assert fitting
    assert all(places.index(name) < places.index(other) for other in fitting)

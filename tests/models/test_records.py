"""Records: complete, immutable and consistent."""

import dataclasses

import pytest
import sympy

from gatewave.models import ACTIVATIONS, DTYPES, Parameter
from gatewave.models.catalogue import by_name

SWIGLU = ACTIVATIONS["swiglu"]
LINEAR = SWIGLU.operators[1]


def test_a_name_is_used_once():
    with pytest.raises(ValueError, match="two records or operators are called sinc"):
        by_name([("sinc", 1), ("swish", 2), ("sinc", 3)])


def test_no_two_operators_have_one_onnx_name():
    names = [o.op_type for activation in ACTIVATIONS.values() for o in activation.operators]
    assert len(names) == len(set(names))


def test_a_record_says_what_it_is_good_for_in_whole_sentences(activation):
    sentences = (
        activation.summary,
        *activation.properties,
        *activation.uses,
        *activation.limits,
        *(parameter.description for parameter in activation.parameters),
    )
    assert activation.properties
    assert activation.uses
    assert activation.limits
    assert all(sentence.endswith(".") for sentence in sentences)
    assert activation.source.startswith("https://")


def test_a_module_is_documented_with_its_formula(operator):
    assert "``" in operator.module_class.__doc__


def test_a_record_cannot_be_changed(activation, operator):
    with pytest.raises(dataclasses.FrozenInstanceError):
        activation.name = "other"
    for mapping in (activation.example, operator.tolerances, operator.choice):
        with pytest.raises(TypeError):
            mapping["x"] = None


def test_defaults_are_the_real_parameters_only():
    assert SWIGLU.defaults(LINEAR) == {"alpha": 1.0}
    assert SWIGLU.defaults(SWIGLU.operators[0]) == {}


def test_stems_name_the_choice():
    assert [SWIGLU.stem(o) for o in SWIGLU.operators] == ["swiglu-sigmoid", "swiglu-linear"]
    assert ACTIVATIONS["sinc"].stem(ACTIVATIONS["sinc"].operators[0]) == "sinc"


CONTRADICTIONS = {
    "name": ({"name": "Swi-GLU"}, "lower-case"),
    "input-named-as-an-output": ({"inputs": ("y", "b")}, "the name y is taken"),
    "input-named-as-a-gradient": ({"inputs": ("grad_y", "b")}, "the name grad_y is taken"),
    "input-named-as-a-parameter": ({"inputs": ("alpha", "b")}, "the name alpha is taken"),
    "inputs-alike": ({"inputs": ("b", "b")}, "the name b is taken"),
    "choice-without-operator": ({"operators": SWIGLU.operators[:1]}, "in order, those for"),
    "default-not-first": ({"operators": SWIGLU.operators[::-1]}, "in order, those for"),
    "example-of-others": ({"example": {"a": (1.0,)}}, "must give a, b"),
    "example-ragged": ({"example": {"a": (1.0,), "b": (1.0, 2.0)}}, "equally many"),
    "parameter-missing": ({"parameters": SWIGLU.parameters[:1]}, r"takes \['alpha'\]"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_an_activation_that_contradicts_itself_is_refused(case):
    change, message = CONTRADICTIONS[case]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SWIGLU, **change)


CONTRADICTIONS_OF_OPERATORS = {
    "scale": ({"scale": ("c",)}, r"scales with \['c'\]"),
    "reals": ({"reals": ("alpha", "beta")}, r"takes \['beta'\]"),
    "choice-as-a-real": ({"reals": ("alpha", "gate")}, r"takes \['gate'\]"),
    "formula": ({"formula": sympy.Symbol("q", real=True)}, "has {q}"),
    "formula-of-other-symbols": ({"formula": sympy.Symbol("a")}, "has {a}"),
    "formula-cut-short": ({"formula": "a*(b"}, "is no expression: .* was never closed"),
    "decomposition": ({"value": lambda op, a, c: op.Mul(a, c)}, r"must take \(op, a, b, alpha\)"),
    "default": ({"value": lambda _op, a, b, alpha=2.0: (a, b, alpha)}, r"with their defaults"),
    "tolerances": ({"tolerances": {"float32": LINEAR.tolerances["float32"]}}, "tolerances for"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS_OF_OPERATORS)
def test_an_operator_at_odds_with_its_activation_is_refused(case):
    change, message = CONTRADICTIONS_OF_OPERATORS[case]
    operators = (SWIGLU.operators[0], dataclasses.replace(LINEAR, **change))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SWIGLU, operators=operators)


def test_every_formula_is_an_expression_of_the_inputs_and_reals(activation, operator):
    names = {symbol.name for symbol in activation.expression(operator).free_symbols}
    assert names == {*activation.inputs, *operator.reals}


def test_a_formula_with_an_unknown_function_is_refused():
    operators = (SWIGLU.operators[0], dataclasses.replace(LINEAR, formula="sigmod(alpha*a)*b"))
    activation = dataclasses.replace(SWIGLU, operators=operators)
    with pytest.raises(ValueError, match="calls sigmod, which SymPy does not know"):
        activation.expression(operators[1])


def test_every_dtype_has_a_tolerance_of_value_and_derivative(operator):
    assert set(operator.tolerances) == set(operator.derivative_tolerances) == set(DTYPES)


def test_a_parameter_without_choices_is_a_real_number():
    assert Parameter("alpha", 1.0, "A number.").choices == ()

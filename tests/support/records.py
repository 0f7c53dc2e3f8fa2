"""Records that tests are parametrised over, by the stem of their files."""

from gatewave.models import ACTIVATIONS

CASES = {
    activation.stem(operator): (activation, operator)
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
}

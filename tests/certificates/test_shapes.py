"""Shapes of a cell: one that is computed wrongly makes the whole cell wrong."""

from gatewave.certificates import activations
from gatewave.certificates.runtimes import catalogue
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.models import ACTIVATIONS


class WrongInRankThree(RuntimeClient):
    """Runtime whose results of three axes are too large by 1."""

    def run(self, inputs):
        results = super().run(inputs)
        return {name: value + (value.ndim == 3) for name, value in results.items()}


def test_a_wrong_shape_makes_the_cell_wrong():
    (subject,) = activations.subjects(ACTIVATIONS["sinc"], ["value"], ["float32"])
    runtime = catalogue.find("onnxruntime")
    with WrongInRankThree(runtime) as running:
        cell = activations.cell(subject, runtime, running)
    assert [shaped.verdict for shaped in cell.shapes] == ["exact", "exact", "differs"]
    assert cell.verdict == "differs"
    assert cell.why.startswith("shape [3, 1, 5]: ")

"""The pipeline, driven by a protocol that is not one of the service's."""

import asyncio
import contextlib

import numpy as np
import pytest

from gatewave.service.codecs.simd import NotPlain
from gatewave.service.errors import DeadlineExceeded, RequestInvalid
from gatewave.service.observability.metrics import ModelTotals, numbers
from gatewave.service.serving.memory import Budget
from gatewave.service.serving.model import ANY, Model, Port
from gatewave.service.serving.pipeline import Pipeline
from gatewave.service.serving.protocol import Decoded, InferenceProtocol, Stage, TextStage
from gatewave.service.serving.request import InferenceRequest, Timing
from gatewave.service.serving.worker_pool import WorkerPool

INLINE = 256
"""Largest size in bytes of work on the event loop in these tests."""


class Doubling(Model):
    name = "toy-doubling"
    version = "1"
    platform = "test"
    inputs = (Port("x", "FP64", (ANY,)),)
    outputs = (Port("y", "FP64", (ANY,)),)
    scalars = {}  # noqa: RUF012 - as the class has it
    batching = None
    trusted = True
    provider = "none"

    def check(self, inputs):
        """Accept all tensors."""

    def output_bytes(self, inputs, outputs):  # noqa: ARG002
        return inputs["x"].nbytes

    def run(self, inputs, outputs, scalars, token=None, *, reuse_inputs=False):  # noqa: ARG002
        return {"y": inputs["x"] * 2}


class Csv(InferenceProtocol):
    """Numbers between commas; a semicolon instead of a comma is not plain, a letter is an error."""

    def __init__(self, *, staged=False):
        self.staged = staged
        self.model = Doubling()
        self.decoded_by = []

    def decode(self, body, timing):
        timing.model = self.model
        if self.staged:
            return Stage(1, lambda: Stage(len(body), lambda: self.read("stage", body), len(body)))
        return TextStage(
            body,
            timing,
            lambda text, _: self.read("plain", text),
            lambda text, _: self.read("complete", text.replace(b";", b",")),
        )

    def read(self, reader, text):
        self.decoded_by.append(reader)
        if b";" in text:
            raise NotPlain
        try:
            x = np.array(text.split(b","), np.float64)
        except ValueError as error:
            raise RequestInvalid.at("body", "numbers", "text") from error
        return Decoded(reader, InferenceRequest(self.model, {"x": x}, ("y",)))

    def encode(self, decoded, outputs):  # noqa: ARG002
        return b",".join(b"%g" % y for y in outputs["y"])

    def result_weight(self, decoded):  # noqa: ARG002
        return 3

    def encoding_size(self, decoded, outputs):  # noqa: ARG002
        return outputs["y"].nbytes


@pytest.fixture
def pipeline():
    worker_pool = WorkerPool(1, 4)
    yield Pipeline(worker_pool, Budget(1 << 20), inline_bytes=INLINE, output_bytes=1 << 16)
    worker_pool.close()


def answer(pipeline, protocol, body, seconds=60):
    async def work():
        with pipeline.budget.permit() as permit:
            output = await pipeline.answer(protocol, body, Timing.now(seconds), permit)
            return output, permit.held

    return asyncio.run(work())


@contextlib.contextmanager
def counted(**expected):
    """Check the number of requests to the model that the block adds, by outcome or phase."""
    before = numbers().get(("toy-doubling", "1"), ModelTotals())
    yield
    after = numbers().get(("toy-doubling", "1"), ModelTotals())
    assert {name: after[name][0] - before[name][0] for name in expected} == expected


LONG = b",".join([b"1"] * INLINE)
READERS = pytest.mark.parametrize(
    ("body", "readers"),
    [
        (b"1,2", ["plain"]),
        (b"1;2", ["plain", "complete"]),
        (LONG, ["plain"]),
        (LONG.replace(b",", b";"), ["plain", "complete"]),
    ],
    ids=["plain", "complete", "long-plain", "long-complete"],
)


@READERS
def test_text_is_decoded_by_the_quick_reader_first(pipeline, body, readers):
    protocol = Csv()
    with counted(ok=1, failed=0, decode=1, compute=1, encode=1):
        output, _ = answer(pipeline, protocol, body)
    assert output == b",".join(b"%g" % (2 * float(n)) for n in body.replace(b";", b",").split(b","))
    assert protocol.decoded_by == readers


@pytest.mark.parametrize("body", [b"1,2", LONG], ids=["short", "long"])
def test_stages_and_results_hold_their_memory(pipeline, body):
    count = len(body.split(b","))
    output, held = answer(pipeline, Csv(staged=True), body)
    assert held == len(body) + 3 * 8 * count
    assert output == b",".join([b"%g" % (2 * float(n)) for n in body.split(b",")])
    assert pipeline.budget.used == 0


def test_an_error_of_decoding_counts_as_a_failure_of_the_model(pipeline):
    with counted(ok=0, failed=1), pytest.raises(RequestInvalid):
        answer(pipeline, Csv(), b"x")
    assert pipeline.budget.used == 0


def test_long_work_does_not_start_after_its_deadline(pipeline):
    with counted(ok=0, failed=1), pytest.raises(DeadlineExceeded):
        answer(pipeline, Csv(), LONG, seconds=-1)


def test_the_fast_answer_equals_the_other(pipeline):
    for protocol in (Csv(), Csv(staged=True)):
        with counted(ok=1, failed=0, decode=1, compute=1, encode=1):
            fast = pipeline.fast_answer(protocol, b"1,2", 0.0)
        assert fast == answer(pipeline, protocol, b"1,2")[0] == b"2,4"


def test_the_fast_answer_declines_long_work(pipeline):
    with counted(ok=0, failed=0, compute=0):
        assert pipeline.fast_answer(Csv(staged=True), LONG, 0.0) is None
        many = b",".join([b"1"] * 20)  # 160 bytes of results, and with their weight 480.
        assert pipeline.fast_answer(Csv(), many, 0.0, is_compressed=True) is None
        with pytest.raises(NotPlain):
            pipeline.fast_answer(Csv(), b"1;2", 0.0)
        with pytest.raises(RequestInvalid):
            pipeline.fast_answer(Csv(), b"x", 0.0)

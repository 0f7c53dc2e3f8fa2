"""Batches of POST /activate/batch: independent requests, each with its own answer or problem.

Everything here is plain computation, so that a batch can be read and answered in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gatewave.service.activate.messages import BodyReader
from gatewave.service.activate.plan import Plan
from gatewave.service.activate.protocol import ActivateProtocol
from gatewave.service.errors import (
    DeadlineExceeded,
    ModelFailed,
    Overloaded,
    RequestInvalid,
    ServiceError,
)
from gatewave.service.observability.metrics import Span
from gatewave.service.serving.pipeline import Pipeline
from gatewave.service.serving.protocol import Decoded
from gatewave.service.serving.request import Timing
from gatewave.service.system import cancellation
from gatewave.service.system.cancellation import CancelToken


@dataclass(slots=True)
class Item:
    """Decoded request of a batch.

    Attributes:
        protocol: The protocol of its answer.
        decoding: The time of its decoding.
    """

    protocol: ActivateProtocol
    decoded: Decoded[Plan]
    timing: Timing
    decoding: Span


def read_batch(reader: BodyReader, body: bytes, deadline: float | None) -> list[Item | bytes]:
    """Return the requests in a batch, with the problem document of each invalid one.

    Raises:
        RequestInvalid: The batch as a whole is invalid.
    """
    protocol = ActivateProtocol(reader)
    items = []
    for document in reader.batch(body):
        cancellation.check()
        items.append(_item(protocol, document, deadline))
    return items


def _item(protocol: ActivateProtocol, document: Any, deadline: float | None) -> Item | bytes:
    timing = Timing(deadline)
    try:
        with timing.counted_failure():
            decoded = protocol.reader.document(document, timing)
    except RequestInvalid as error:
        return _problem(error)
    return Item(protocol, decoded, timing, (timing.began, time.perf_counter()))


def to_json_batch(pipeline: Pipeline, items: Sequence[Item | bytes], token: CancelToken) -> bytes:
    """Compute ``items`` in the current thread; return the answer in JSON.

    The answer ends early if ``token`` is cancelled: its caller has disconnected.
    """
    answers = []
    for item in items:
        if token.is_cancelled:
            break
        answers.append(_answered(pipeline, item) if isinstance(item, Item) else item)
    return b'{"results":[' + b",".join(answers) + b"]}"


def _answered(pipeline: Pipeline, item: Item) -> bytes:
    timing = item.timing
    try:
        with timing.counted_failure():
            answer = pipeline.answer_now(item.protocol, item.decoded, timing.began, item.decoding)
    except (DeadlineExceeded, ModelFailed, Overloaded) as error:
        return _problem(error)
    return b"".join(answer.parts)


def _problem(error: ServiceError) -> bytes:
    return orjson.dumps({"problem": error.problem()})

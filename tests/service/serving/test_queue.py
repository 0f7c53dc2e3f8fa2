"""Bounded queue: the owner with the most requests loses its latest one."""

import pytest

from gatewave.service.errors import Overloaded
from gatewave.service.serving.queue import RequestQueue


@pytest.fixture
def queue():
    return RequestQueue(3)


@pytest.fixture
def reserve(queue):
    """Return a function that reserves a slot; an evicted owner is appended to ``lost``."""

    def reserve(owner, lost):
        slot = queue.reserve(owner)
        slot.evict = lambda _: lost.append(owner)
        return slot

    return reserve


def test_an_owner_with_more_requests_loses_one(queue, reserve):
    lost = []
    for _ in range(3):
        reserve("a", lost)
    reserve("b", lost)
    assert lost == ["a"]
    assert queue.length == 3


def test_owners_that_differ_by_one_evict_none_of_each_other(queue, reserve):
    lost = []
    for owner in "aab":
        reserve(owner, lost)
    for owner in "ab":
        with pytest.raises(Overloaded, match="3 requests are waiting"):
            reserve(owner, lost)
    assert lost == []
    assert queue.length == 3

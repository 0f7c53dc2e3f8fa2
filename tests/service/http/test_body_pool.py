"""Pool of memory for large bodies: memory is reused only after its last reference is gone."""

import gc

import numpy as np
import pytest

from gatewave.service.http import body_pool
from gatewave.service.http.body_pool import ENOUGH, LARGE, memory


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Exclude objects of other tests from garbage collections here."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_free():
    gc.collect()
    body_pool._free.clear()  # noqa: SLF001 - what other tests left
    yield
    body_pool._free.clear()  # noqa: SLF001 - tens of megabytes


def address(array):
    return array.ctypes.data


def test_what_nobody_uses_is_used_again():
    before = memory(LARGE + 50)
    place = address(before)
    del before
    again = memory(LARGE + 100)
    assert address(again) == place
    assert len(again) == LARGE + 100


@pytest.mark.parametrize(
    "use",
    [
        lambda whole: whole[10:20],
        lambda whole: whole.data[10:20],
        lambda whole: np.frombuffer(whole.data[16:80], np.float32),
        lambda whole: np.frombuffer(whole.data[16:80], np.float32).reshape(4, 4)[1:, 2:],
        lambda whole: memoryview(whole.view(np.uint8).data[5:]).cast("B")[:1],
    ],
    ids=["slice", "bytes", "tensor", "part of a tensor", "what is sent of it"],
)
def test_what_anything_refers_to_is_left_alone(use):
    whole = memory(LARGE)
    place = address(whole)
    used = use(whole)
    del whole
    gc.collect()
    other = memory(LARGE)
    assert address(other) != place
    del used
    gc.collect()
    assert address(memory(LARGE)) == place


def test_all_of_it_can_be_written_to():
    whole = memory(LARGE + 1)
    whole[:] = 7
    assert whole.sum() == 7 * (LARGE + 1)


def test_a_small_body_does_not_take_the_place_of_a_large_one():
    large = memory(4 * LARGE)
    place = address(large)
    del large
    assert address(memory(LARGE)) != place
    assert address(memory(2 * LARGE)) == place


def test_no_more_is_kept_than_is_of_use():
    many = [memory(LARGE) for _ in range(2 * ENOUGH // LARGE)]
    del many
    assert sum(map(len, body_pool._free)) == ENOUGH  # noqa: SLF001 - what the system has not back


def test_what_is_too_large_to_wait_does_not():
    for megabytes in (31, 64):
        memory(megabytes << 20)
    assert sum(map(len, body_pool._free)) <= ENOUGH  # noqa: SLF001 - as above


def test_what_was_of_use_long_ago_makes_room():
    small = [memory(LARGE) for _ in range(ENOUGH // LARGE)]
    del small
    large = memory(12 * LARGE)
    place = address(large)
    del large
    assert address(memory(12 * LARGE)) == place

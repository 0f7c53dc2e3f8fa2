"""Cases for the clients: tensors to send, and a report of the results.

All modules in this folder run in the environment of the clients. A script reads the address of
the server from standard input. It writes the names of the cases that passed to standard output,
and the failed cases with their reasons.
"""

import contextlib
import json
import sys
import traceback

import ml_dtypes
import numpy as np

NAN, INF = float("nan"), float("inf")
SHAPES = {"(2,3)": (2, 3), "(0,3)": (0, 3), "()": (), "(50,40)": (50, 40)}
"""Shapes of the tensors; the answers of the last one are worth compressing."""

STRINGS = ["", "plain", "ünïcödé 日本", 'a\n"quoted"', "nul\0inside", "x" * 300]


def _whole(kind):
    bounds = np.iinfo(kind)
    return np.array([bounds.min, 0, 1, 2, bounds.max - 1, bounds.max], kind)


def _floats(kind):
    largest = float(ml_dtypes.finfo(kind).max)
    return np.array([1.5, -0.0, NAN, INF, -INF, largest], kind)


VALUES = {
    "BOOL": np.array([True, False, True, True, False, False]),
    **{name.upper(): _whole(name) for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name.upper(): _whole(name) for name in ("int8", "int16", "int32", "int64")},
    "FP16": _floats(np.float16),
    "FP32": _floats(np.float32),
    "FP64": _floats(np.float64),
    "BF16": _floats(ml_dtypes.bfloat16),
    "BYTES": np.array([text.encode() for text in STRINGS], np.object_),
}


def tensor(datatype, shape):
    """Return the values of ``datatype``, repeated to ``shape``; a scalar has the last one."""
    values = VALUES[datatype]
    array = np.empty(shape, values.dtype)
    array[...] = np.resize(values, shape) if shape else values[-1]
    return array


def same(got, sent):
    """Check that ``got`` equals ``sent``, with the signs of zeros and the places of NaN."""
    assert got is not None, "there is no such output"
    assert got.shape == sent.shape, f"shape {got.shape}, not {sent.shape}"
    if sent.dtype == np.object_:
        got = [item if isinstance(item, bytes) else item.encode() for item in got.reshape(-1)]
        assert got == sent.reshape(-1).tolist(), "other strings"
        return
    assert got.dtype == sent.dtype, f"dtype {got.dtype}, not {sent.dtype}"
    wide = np.float64 if sent.dtype.kind in "fV" else sent.dtype
    np.testing.assert_array_equal(got.astype(wide), sent.astype(wide))
    if wide == np.float64:
        numbers = ~np.isnan(sent.astype(wide))
        signs = np.signbit(got.astype(wide)), np.signbit(sent.astype(wide))
        assert (signs[0] == signs[1])[numbers].all(), "another sign"


class Report:
    """Cases that have passed or failed."""

    def __init__(self):
        self.passed = []
        self.failed = {}

    @contextlib.contextmanager
    def case(self, name):
        """Run a case; its failure does not end the others."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the case failed
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.failed[name] = (
                f"{type(error).__name__}: {error} at {where.filename}:{where.lineno}"[:600]
            )
        else:
            self.passed.append(name)

    def write(self):
        json.dump({"passed": self.passed, "failed": self.failed}, sys.stdout)


def target():
    """Return the server: ``http`` and ``grpc`` addresses, and ``headers`` with an admin's key."""
    return json.load(sys.stdin)


def refused(call, *words):
    """Check that ``call`` raises an error that contains all ``words``."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - each client has errors of its own
        _says(error, words)
    else:
        raise AssertionError("it was not refused")


async def refused_later(work, *words):
    """Check that awaiting ``work`` raises an error that contains all ``words``."""
    try:
        await work
    except Exception as error:  # noqa: BLE001
        _says(error, words)
    else:
        raise AssertionError("it was not refused")


def _says(error, words):
    for word in words:
        assert word in str(error), f"{word!r} is not in {error}"

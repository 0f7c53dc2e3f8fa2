"""Tokens that end work with a result that is no longer needed."""

import time

import pytest

from gatewave.service.errors import DeadlineExceeded
from gatewave.service.onnx.session import run_options
from gatewave.service.system import cancellation
from gatewave.service.system.cancellation import CancelToken


def test_a_cancelled_token_ends_the_work():
    token = CancelToken()
    token.check()
    token.cancel()
    with pytest.raises(DeadlineExceeded, match="the caller has gone"):
        token.check()


def test_a_deadline_that_has_passed_ends_the_work():
    token = CancelToken(time.monotonic() - 1)
    assert not token.is_cancelled
    with pytest.raises(DeadlineExceeded, match="the deadline passed"):
        token.check()


def test_work_without_a_token_goes_on():
    cancellation.check()


def test_callbacks_are_called_on_cancellation():
    token, called = CancelToken(), []
    token.on_cancel(lambda: called.append(1))
    assert not called
    token.cancel()
    assert called == [1]


def test_a_callback_that_comes_late_is_called_at_once():
    token, called = CancelToken(), []
    token.cancel()
    token.on_cancel(lambda: called.append(1))
    assert called == [1]


def test_a_token_ends_runs_of_onnx_runtime():
    token = CancelToken()
    before = run_options(token)
    assert not before.terminate
    token.cancel()
    assert before.terminate
    assert run_options(token).terminate
    assert run_options(None) is None

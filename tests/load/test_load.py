"""Short versions of `make soak`, `make fuzz` and `make fuzz-api`."""

import fuzz
import fuzz_api
import pytest
import soak

STEPS = 80
"""Steps of the short soak: with 20 for each quarter, three minima of memory differ by the leak."""
SHORT_GROWTH = 0.01
"""Growth of one measurement. Warm-up of the allocators takes 5 % in the first one; in later ones a
service grows by 0.3 %, and by 2.3 % with the leak.
"""

SHORT_CASES = 1000
SHORT_API_CASES = 100


def test_a_service_under_load_does_not_grow(artifacts):
    """The short form of `make soak`: it counts requests, not seconds."""
    with soak.serving_to_soak(artifacts) as server:
        verdict = soak.step_by_step(server, STEPS, SHORT_GROWTH)
    assert verdict.bad == [], str(verdict)


def test_a_service_that_leaks_is_found_out(artifacts):
    """Positive control: the same check finds each of the three leaks."""
    with soak.serving_to_soak(artifacts, leak=True) as server:
        verdict = soak.step_by_step(server, STEPS, SHORT_GROWTH)
    assert verdict.bad == soak.LEAKS, str(verdict)


def samples(grow, count=200):
    return [soak.Sample(n, *grow(n)) for n in range(count)]


@pytest.mark.parametrize(
    ("grow", "bad"),
    [
        (lambda _: (200 << 20, 30, 10), []),
        (lambda n: ((200 << 20) + (n % 7 << 20), 30 + n % 3, 10), []),
        (lambda n: (min(n, 90) << 20, 30, 10), []),
        (lambda n: ((200 << 20) + (n << 10) * 20, 30, 10), []),
        (lambda n: ((200 << 20) + (n << 10) * 50, 30, 10), ["resident memory grows"]),
        (lambda n: (200 << 20, 30 + n // 10, 10), ["open files grow"]),
        (lambda n: (200 << 20, 30, 10 + n // 150), []),
        (lambda n: (200 << 20, 30, 10 + n // 20), ["threads grow"]),
    ],
    ids=["flat", "noisy", "warming up", "within 1 %", "5 %", "files", "a last thread", "threads"],
)
def test_the_verdict_follows_what_was_seen(grow, bad):
    assert soak.judge(samples(grow)).bad == bad


def test_wrong_bodies_are_the_callers_fault_and_the_service_goes_on(artifacts, tmp_path):
    with fuzz.serving_to_fuzz(artifacts, tmp_path) as server:
        seen = fuzz.fuzz(server, range(SHORT_CASES), seed=1)
    assert seen[200] > SHORT_CASES / 50
    assert sum(seen[status] for status in (400, 404, 415, 422)) > SHORT_CASES / 2


def test_a_case_follows_from_its_seed_and_number():
    assert str(fuzz.Case(1, 7)) == str(fuzz.Case(1, 7))
    assert str(fuzz.Case(1, 7)) != str(fuzz.Case(2, 7))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/activate", (500, "application/problem+json", b'{"status": 500}')),
        ("/activate", (400, "text/plain", b"{}")),
        ("/v2/models/swiglu/infer", (400, "application/json", b'{"error": "x", "more": 1}')),
        ("/v2/models/swiglu/infer", (503, "application/json", b'{"error": "x"}')),
    ],
)
def test_an_answer_that_no_protocol_knows_is_found_out(path, answer):
    case = fuzz.Case(1, 1)
    case.path = path
    with pytest.raises(fuzz.Broken):
        fuzz.check(case, *answer)


def test_nothing_that_openapi_describes_is_answered_with_5xx(artifacts, tmp_path):
    with fuzz_api.serving_all(artifacts, tmp_path) as server:
        assert fuzz_api.fuzz(server.url, SHORT_API_CASES, seed=1) >= SHORT_API_CASES

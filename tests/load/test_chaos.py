"""Short version of `make chaos`: killed workers, and services that are told to end."""

import chaos


def test_a_killed_worker_loses_its_own_requests_only_and_is_replaced(artifacts):
    report = chaos.kill_workers(artifacts, rounds=2)
    assert report.broken == []
    assert report.seen["workers killed"] == 2


def test_a_service_that_is_told_to_end_loses_nothing(artifacts):
    report = chaos.end_services(artifacts, rounds=2)
    assert report.broken == []
    assert report.seen["slow requests answered"] == 2

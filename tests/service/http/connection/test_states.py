"""The table of states and events of a connection."""

import itertools
import re

import pytest

from gatewave.service.http.connection import states
from gatewave.service.http.connection.states import Event, RequestState, UnexpectedEventError

NEXT = {
    ("NEW", "BEGIN"): "HEAD",
    ("NEW", "REFUSE"): "CLOSED",
    ("HEAD", "UPGRADE"): "UPGRADING",
    ("HEAD", "BUFFER"): "BUFFERING",
    ("HEAD", "PASS"): "STREAMING",
    ("HEAD", "REFUSE"): "CLOSED",
    ("UPGRADING", "COMPLETE"): "UPGRADING",
    ("UPGRADING", "BEGIN"): "HEAD",
    ("UPGRADING", "REFUSE"): "CLOSED",
    ("BUFFERING", "COMPLETE"): "QUEUED",
    ("BUFFERING", "TAKE"): "TAKEN",
    ("BUFFERING", "REFUSE"): "CLOSED",
    ("QUEUED", "TAKE"): "TAKEN",
    ("TAKEN", "ANSWER"): "DONE",
    ("TAKEN", "PASS"): "STREAMING",
    ("TAKEN", "DISCARD"): "CLOSED",
    ("TAKEN", "REFUSE"): "CLOSED",
    ("STREAMING", "COMPLETE"): "DONE",
    ("STREAMING", "REFUSE"): "CLOSED",
    ("DONE", "BEGIN"): "HEAD",
    ("DONE", "REFUSE"): "CLOSED",
}
"""All transitions; every other pair is an error."""


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
@pytest.mark.parametrize("state", RequestState, ids=lambda state: state.name)
def test_each_state_allows_its_events_only(state, event):
    expected = NEXT.get((state.name, event.name))
    if expected is not None:
        assert states.TRANSITIONS[state][event] is RequestState[expected]
        return
    with pytest.raises(UnexpectedEventError, match=rf"{event.name} .*{state.name}") as raised:
        states.TRANSITIONS[state][event]
    assert (raised.value.state, raised.value.event) == (state, event)


def test_each_state_is_reachable_and_may_close():
    reached = {states.NEW}
    while more := {n for s in reached for n in states.TRANSITIONS[s].values()} - reached:
        reached |= more
    assert reached == set(RequestState)
    # A queued request is taken first, so its answer is not lost.
    assert {s for s in RequestState if states.REFUSE not in states.TRANSITIONS[s]} == {
        states.QUEUED,
        states.CLOSED,
    }


def test_a_request_is_assigned_or_not():
    assert not states.ASSIGNED & states.UNASSIGNED
    assert set(RequestState) - states.ASSIGNED - states.UNASSIGNED == {states.NEW, states.CLOSED}


@pytest.mark.parametrize("member", [*RequestState, *Event], ids=lambda member: member.name)
def test_each_member_has_a_global_of_its_name(member):
    assert getattr(states, member.name) is member


def test_the_documented_ways_are_transitions():
    ways = [re.findall(r"[A-Z]{2,}", line) for line in states.__doc__.split("```")[1].splitlines()]
    steps = [(RequestState[a], RequestState[b]) for way in ways for a, b in itertools.pairwise(way)]
    assert len(steps) > 10
    assert all(after in states.TRANSITIONS[before].values() for before, after in steps)
    shown = {state for step in steps for state in step}
    assert shown == set(RequestState) - {states.NEW, states.CLOSED}

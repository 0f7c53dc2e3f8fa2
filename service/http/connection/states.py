"""States of a connection, the events that change them, and the table of all transitions.

A state belongs to the request that is read last. Earlier requests may still wait for their answers:
`HttpToolsProtocol.pipeline` of uvicorn keeps the order.

The ways of a request:

```
HEAD → BUFFERING → QUEUED → TAKEN → DONE               small: the fast path answers
HEAD → BUFFERING → QUEUED → TAKEN → STREAMING → DONE   declined by the fast path
HEAD → BUFFERING → TAKEN → STREAMING → DONE            small in its head, with a late or long body
HEAD → STREAMING → DONE                                any other: the application answers
HEAD → UPGRADING → HEAD                                the Upgrade field is ignored
```

A connection begins in NEW, and goes from DONE to HEAD with the next request. It ends in CLOSED, in
which it reads no more. A queued request is taken before that, to be answered.
"""

from __future__ import annotations

from enum import Enum


class RequestState(Enum):
    """State of the request that is read last."""

    NEW = "no byte of a first request was parsed"
    HEAD = "the head is incomplete, or was just completed"
    UPGRADING = "the head has an Upgrade field and will be parsed again without it"
    BUFFERING = "the fast path may answer the request, and its body is incomplete"
    QUEUED = "the request is complete and waits for its turn on the fast path"
    TAKEN = "the request left the buffer or the queue, and is answered or passed on next"
    STREAMING = "the application has the request and receives its body in pieces"
    DONE = "the request is complete, and answered or passed to the application"
    CLOSED = "nothing more is read"

    # The hash of `Enum` is a Python function, which takes as long as three transitions.
    __hash__ = object.__hash__


class Event(Enum):
    """Event that changes the state of a connection."""

    BEGIN = "the parser began a request"
    UPGRADE = "the parser stopped after a head with an Upgrade field"
    BUFFER = "the request with this head may be answered by the fast path"
    COMPLETE = "the parser read the end of the request"
    TAKE = "a turn came, or the rest of the body was late"
    ANSWER = "the fast path answered the request"
    PASS = "the application was started on the request"  # noqa: S105 - no password
    DISCARD = "the transport is closing, so the request is dropped"
    REFUSE = "the request is malformed or exceeds a limit"

    __hash__ = object.__hash__


# Python 3.11 finds a member of an enumeration in 80 ns, and a global in less than 5 ns. A request
# on the fast path makes five transitions.
NEW = RequestState.NEW
HEAD = RequestState.HEAD
UPGRADING = RequestState.UPGRADING
BUFFERING = RequestState.BUFFERING
QUEUED = RequestState.QUEUED
TAKEN = RequestState.TAKEN
STREAMING = RequestState.STREAMING
DONE = RequestState.DONE
CLOSED = RequestState.CLOSED

BEGIN = Event.BEGIN
UPGRADE = Event.UPGRADE
BUFFER = Event.BUFFER
COMPLETE = Event.COMPLETE
TAKE = Event.TAKE
ANSWER = Event.ANSWER
PASS = Event.PASS
DISCARD = Event.DISCARD
REFUSE = Event.REFUSE


class UnexpectedEventError(Exception):
    """An event that the present state does not allow."""

    def __init__(self, state: RequestState, event: Event) -> None:
        super().__init__(f"{event.name} in state {state.name}: {event.value}, but {state.value}")
        self.state = state
        self.event = event


class Transitions(dict[Event, RequestState]):
    """Next state for each event that ``state`` allows.

    Raises:
        UnexpectedEventError: An event is looked up that the state does not allow.
    """

    def __init__(self, state: RequestState, next_states: dict[Event, RequestState]) -> None:
        super().__init__(next_states)
        self._state = state

    def __missing__(self, event: Event) -> RequestState:
        raise UnexpectedEventError(self._state, event)


TRANSITIONS = {
    state: Transitions(state, next_states)
    for state, next_states in {
        NEW: {BEGIN: HEAD, REFUSE: CLOSED},
        HEAD: {UPGRADE: UPGRADING, BUFFER: BUFFERING, PASS: STREAMING, REFUSE: CLOSED},
        # llhttp reports the end of a message after a head with Upgrade, though its body follows.
        UPGRADING: {COMPLETE: UPGRADING, BEGIN: HEAD, REFUSE: CLOSED},
        BUFFERING: {COMPLETE: QUEUED, TAKE: TAKEN, REFUSE: CLOSED},
        # Neither the next request nor an error may overtake a queued request: it is taken first.
        QUEUED: {TAKE: TAKEN},
        TAKEN: {ANSWER: DONE, PASS: STREAMING, DISCARD: CLOSED, REFUSE: CLOSED},
        STREAMING: {COMPLETE: DONE, REFUSE: CLOSED},
        DONE: {BEGIN: HEAD, REFUSE: CLOSED},
        # Every event is an error, which stops a parser that has more requests in its data.
        CLOSED: {},
    }.items()
}

UNASSIGNED = frozenset({HEAD, UPGRADING, BUFFERING, QUEUED, TAKEN})
"""States of a request that neither the fast path nor the application has answered or received."""

ASSIGNED = frozenset({STREAMING, DONE})
"""States of a request that was answered, or is the application's to answer."""

"""HTTP/1.1 connections: uvicorn's protocol, with limits, timeouts and a fast path.

`connection` has the class, and `states` the table of its states and events. The other modules have
the parts that need no state of a connection: `head` and `limits` (bounds), `malformed` and
`upgrade` (requests that uvicorn does not answer as needed), `body_buffer` and `read_queue` (small
requests), `flow_control` (pipelined requests), `write_timeout` (clients that do not read), and
`uvicorn_api` (the attributes of uvicorn that must exist).
"""

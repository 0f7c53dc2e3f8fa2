"""HTTP/1.1 as uvicorn speaks it, with bounds, and quicker with what can be answered at once.

A connection is a uvicorn protocol, with a layer for each concern: `bounds` (how much of a request
there may be, and what becomes of what is none), `patience` (who takes no answer is cut off), and
`protocol` (what is small is answered past the application), with the `line` in which that waits.
"""

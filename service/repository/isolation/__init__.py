"""Isolated models: computed in processes of their own, which a run may crash or block.

`model` is the model that the service sees, `pool` keeps its processes running, and `process` talks
to one of them. `program` is what such a process executes; `frames` and `messages` are the protocol.
"""

"""Trial of a model version in a process of its own, before the serving process opens it.

`scheduler` decides when a trial runs, `process` starts its process, and `program` is what the
process executes: `warmup` runs the model once, and `batching` checks whether rows may be computed
together.
"""

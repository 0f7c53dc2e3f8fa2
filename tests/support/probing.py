"""Answers of a runtime, compared with the file of a target."""

from gatewave.graphs.targets import probe, probe_models


def disagreements(answer, target):
    """Return the models for which the target's file contradicts the result of the runtime."""
    by_name = {str(p): p for p in (*probe_models.PROBED, probe.PLAIN)}
    for row in answer.rows:
        if row.operator in by_name and row.provider == "CPUExecutionProvider":
            probed = by_name[row.operator]
            expected = (
                row.opset in target.opsets
                and row.ir in target.ir
                and target.runs(probed.identifier, row.opset, row.dtype, dict(probed.attributes))
            )
            if expected != (row.outcome == "runs"):
                yield row

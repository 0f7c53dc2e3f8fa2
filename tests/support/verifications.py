"""Helpers of the verification tests: head of models, and access to reports."""

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def worst(report):
    (found,) = [one for one in report.outputs if not one.holds]
    return found

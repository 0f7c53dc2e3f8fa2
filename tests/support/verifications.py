"""What tests of verification write models with, and read in reports."""

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def worst(report):
    (found,) = [one for one in report.outputs if not one.holds]
    return found

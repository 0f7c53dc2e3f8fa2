"""Lowering of a model to the operators that a target runs."""

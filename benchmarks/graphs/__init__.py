"""Activations in production graphs: number of fusions, and gain in time."""

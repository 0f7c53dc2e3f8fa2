"""Activations that can be evaluated, read from the artifacts."""

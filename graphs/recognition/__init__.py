"""Activations in any graph, known by the numbers that they give."""

"""Serving any model: what one is, where it is found, and when it may run."""

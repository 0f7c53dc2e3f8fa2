"""Torch modules: calling them with named examples, preserving their state, verifying exports."""

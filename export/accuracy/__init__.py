"""Exact results, and the measured errors of graphs."""

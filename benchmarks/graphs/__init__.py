"""Activations in production graphs: how many are fused, and what that brings."""

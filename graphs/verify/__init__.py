"""Verification: comparison of two models on sampled inputs."""

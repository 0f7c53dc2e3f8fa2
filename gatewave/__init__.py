"""Activation functions from Torch to production."""

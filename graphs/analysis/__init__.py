"""Scopes, element types, shapes and constants of a model."""

"""Processes that run foreign code, and messages with them."""

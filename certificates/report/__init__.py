"""Certificates and comparisons as pages for people."""

"""Certificates: results of runtimes, their inputs, and their errors against expected results."""

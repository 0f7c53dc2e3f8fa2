"""Torch modules of the records, and their decompositions computed by Torch."""

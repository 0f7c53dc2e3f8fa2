"""Measurements that a reader can repeat; never tests."""

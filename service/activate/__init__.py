"""Evaluation of activations: requests and answers of POST /activate."""

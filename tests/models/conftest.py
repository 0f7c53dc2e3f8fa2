"""Fixtures of the tests of the Torch modules."""

import pytest
import torch


@pytest.fixture
def module(operator):
    return operator.build()


@pytest.fixture
def points(activation):
    """Return float64 inputs over the range of the plot, away from kinks."""
    numbers = torch.Generator().manual_seed(1)
    low, high = activation.plot_range

    def drawn():
        tensor = low + (high - low) * torch.rand(24, generator=numbers, dtype=torch.float64)
        return torch.where(tensor.abs() < 0.01, 0.25, tensor)

    return [drawn() for _ in activation.inputs]

"""What the tests of the Torch modules share."""

import pytest
import torch


@pytest.fixture
def module(operator):
    return operator.build()


@pytest.fixture
def points(activation):
    """Float64 inputs over the interesting range, none near a kink."""
    numbers = torch.Generator().manual_seed(1)
    low, high = activation.plot_range

    def drawn():
        tensor = low + (high - low) * torch.rand(24, generator=numbers, dtype=torch.float64)
        return torch.where(tensor.abs() < 0.01, 0.25, tensor)

    return [drawn() for _ in activation.inputs]

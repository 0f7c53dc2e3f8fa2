"""Outputs that change between two runs of one model."""

import numpy as np

from gatewave.graphs.verify.comparison import unlike

WANTED = np.linspace(1, 2, 12, dtype=np.float32)


def test_rounding_is_no_change_and_small_noise_is_one():
    once = dict.fromkeys(("same", "rounded", "noisy", "missing"), WANTED)
    again = {
        "same": WANTED.copy(),
        "rounded": np.nextafter(WANTED, np.float32(3)),
        "noisy": WANTED + np.float32(0.05),
    }
    assert unlike(once, again) == ["noisy", "missing"]

"""Models that are computed in processes of their own."""

"""Models of others: read safely, walked, and written in one step."""

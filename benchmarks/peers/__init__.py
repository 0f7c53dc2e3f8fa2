"""Other servers, for comparison with the service."""

"""Keys, clients and exposure."""

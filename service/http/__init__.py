"""HTTP: connections, endpoints and routes."""

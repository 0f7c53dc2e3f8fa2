"""Certificates: what runtimes answered, on which inputs, and how far that is from what is due."""

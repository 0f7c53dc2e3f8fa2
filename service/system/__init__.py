"""Sockets, processors, memory and TLS of the machine."""

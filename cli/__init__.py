"""The `gatewave` command, and the table files that `gatewave eval` reads and writes."""

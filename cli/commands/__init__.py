"""The subcommands of `gatewave`, a file for each."""

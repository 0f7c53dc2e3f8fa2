"""The `gatewave` command: ``python -m gatewave``."""

from gatewave.cli.main import main

if __name__ == "__main__":
    main()

"""Make each worker leak; Python imports this module at its start."""

import sys

if "gatewave.service.processes.worker" in sys.orig_argv:
    import leaking

    leaking.leak()

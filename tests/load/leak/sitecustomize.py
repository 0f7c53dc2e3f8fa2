"""Make each worker leak; Python imports this module at its start."""

import sys

if "service.worker" in sys.orig_argv:
    import leaking

    leaking.leak()

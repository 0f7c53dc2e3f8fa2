"""Has each worker leak; Python imports this module when it starts."""

import sys

if "service.worker" in sys.orig_argv:
    import leaking

    leaking.leak()

"""An end by SIGTERM while the command is still being imported.

`gatewave.cli` imports this module before all that takes time.
"""

import os
import signal
import sys
from typing import Any


def _end(*_: Any) -> None:
    # The import that this interrupts may catch exceptions. No file is open yet.
    os._exit(0)


if sys.argv[1:2] == ["serve"]:
    # Before a service has begun, SIGTERM ends it as later: nothing is lost, so the status is 0.
    signal.signal(signal.SIGTERM, _end)

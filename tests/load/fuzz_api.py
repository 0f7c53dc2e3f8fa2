"""Send valid and invalid requests for all operations of the OpenAPI document, by schemathesis.

``make fuzz-api CASES=10000`` ends with 1 if an answer is 5xx, and shows the request. Half of the
cases also use names of models that do not exist; the others use existing models.
"""

import argparse
import contextlib
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import run, serving

OPERATIONS = 26
"""Approximate number of operations, among which the cases are divided."""

NAMES = """
[parameters]
name = "swiglu"
model = "swiglu"
version = "1"
"""

TESTER = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]


class Broken(Exception):  # noqa: N818 - what is broken is a promise
    """An answer was 5xx, or a request was not answered."""


def fuzz(url, cases, seed):
    """Send at least ``cases`` cases, and return their number.

    Raises:
        Broken: The service broke a promise; the message contains the request.
    """
    sent = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, configuration in enumerate((NAMES, "")):
            wanted = (cases * (number + 1)) // 2
            while sent < wanted:
                (Path(folder) / "schemathesis.toml").write_text(configuration)
                sent += _run(url, folder, wanted - sent, seed)
                seed += 1
    return sent


def _run(url, folder, cases, seed):
    """Run schemathesis once for about ``cases`` cases, and return their number."""
    each = max(1, math.ceil(cases / OPERATIONS))
    arguments = ["run", f"{url}/openapi.json", "--checks", "not_a_server_error"]
    options = ["--max-examples", str(each), "--seed", str(seed), "--warnings", "off"]
    more = ["--suppress-health-check", "all", "--request-timeout", "60"]
    done = subprocess.run(
        [*TESTER, *arguments, *options, *more],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    generated = re.search(r"([\d,]+) generated", done.stdout)
    if done.returncode != 0 or generated is None:
        raise Broken(f"seed {seed}\n{done.stdout}\n{done.stderr}")
    return int(generated[1].replace(",", ""))


@contextlib.contextmanager
def serving_all(artifacts, folder):
    """Run a service with all operations; without a repository, its index answers 501."""
    variables = {"GATEWAVE_REPOSITORY": str(folder), "GATEWAVE_ACCESS_LOG": "false"}
    with serving(artifacts, **variables) as server:
        yield server


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifacts, repository = Path(folder) / "artifacts", Path(folder) / "repository"
        repository.mkdir()
        run("export", "--output", artifacts).check_returncode()
        with serving_all(artifacts, repository) as server:
            try:
                sent = fuzz(server.url, options.cases, options.seed)
            except Broken as error:
                print(f"BROKEN: {error}")
                return 1
    print(f"{sent} cases, and no answer was 5xx")
    return 0


if __name__ == "__main__":
    sys.exit(main())

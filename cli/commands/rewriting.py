"""Arguments and options that the commands that rewrite a model share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[Path, typer.Argument(help="An ONNX model. It is only read.")]

JsonOption = Annotated[bool, typer.Option("--json", help="Print what was done, for scripts.")]

VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Run both models on generated inputs; one that differs is not written.",
    ),
]

"""`gatewave eval`: an activation over a file of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from gatewave.cli.commands.parameters import ParamOption, parsed
from gatewave.cli.files import evaluate_file
from gatewave.service.activate.plan import Plan
from gatewave.service.activations.catalogue import Catalogue
from gatewave.service.codecs.datatypes import DType
from gatewave.service.onnx.engine import Engine
from gatewave.service.serving.request import run
from gatewave.service.settings import Settings
from gatewave.service.system.devices import Device


def evaluate(
    activation: Annotated[str, typer.Argument(help="Its name.")],
    source: Annotated[Path, typer.Argument(help=".npy, .npz, .safetensors, .parquet or .csv")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    param: ParamOption = None,
    dtype: Annotated[DType, typer.Option(help="What is computed and written.")] = "float32",
    outputs: Annotated[str, typer.Option(help="What to compute: y,dy_da,…")] = "y",
    artifacts: Annotated[Path | None, typer.Option(help="What `gatewave export` wrote.")] = None,
    device: Annotated[Device | None, typer.Option(help="Where to compute.")] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Elements computed at a time.")] = 1 << 20,
) -> None:
    """Evaluate an activation over a file's tensors or columns, named as its inputs, in chunks.

    The output appears whole, or not at all.

    Example: `gatewave eval swiglu gates.npz -p gate=linear --outputs y,dy_da -o swiglu.npz`
    """
    settings = Settings()
    engine = Engine.start(
        device or settings.device,
        settings.threads,
        kernels=settings.kernels,
        instructions=settings.kernels_instructions,
    )
    catalogue = Catalogue.open(artifacts or settings.artifacts, engine)
    names = [name.strip() for name in outputs.split(",")]
    plan = Plan.make(catalogue, activation, params=parsed(param), dtype=dtype, outputs=names)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(source.name, total=None)
        count = evaluate_file(
            source,
            output,
            inputs=plan.graph.input_names,
            outputs=plan.outputs,
            dtype=dtype,
            compute=lambda tensors: run(plan.call(tensors)),
            chunk_elements=chunk,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"wrote {output}: {', '.join(names)} at {count} elements, {plan.function.formula}")

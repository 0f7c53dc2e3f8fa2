"""`gatewave eval`: an activation over a file of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gatewave.cli import terminal
from gatewave.cli.errors import needing
from gatewave.cli.options import JsonOption, ParamOption, choice, parameters
from gatewave.service.system.devices import Device


def evaluate(
    activation: Annotated[str, typer.Argument(help="Its name.")],
    source: Annotated[Path, typer.Argument(help=".npy, .npz, .safetensors, .parquet or .csv")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    param: ParamOption = None,
    dtype: Annotated[
        str, typer.Option(help="Element type of the computation and of the output.")
    ] = "float32",
    outputs: Annotated[
        str, typer.Option(help="Results to compute: the value y, and derivatives such as dy_da.")
    ] = "y",
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder that `gatewave export` wrote.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Device for computing.")] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Elements computed at a time.")] = 1 << 20,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an activation over the tensors or columns of a file.

    The tensors or columns have the names of the activation's inputs. They are read in chunks, so
    the file may be larger than the memory. The output file appears when it is complete.

    Examples:

        gatewave eval sinc x.npy -o y.npy
        gatewave eval swiglu gates.npz -p gate=linear --outputs y,dy_da -o swiglu.npz
    """
    with needing("cpu"):
        from gatewave.cli.files import evaluate_file
        from gatewave.service.activate.plan import Plan
        from gatewave.service.activations.catalogue import Catalogue
        from gatewave.service.codecs.datatypes import DTYPES
        from gatewave.service.onnx.engine import Engine
        from gatewave.service.serving.request import run
        from gatewave.service.settings import Settings
    element_type = choice("--dtype", dtype, DTYPES)
    settings = Settings()
    engine = Engine.start(
        device or settings.device,
        settings.threads,
        kernels=settings.kernels,
        instructions=settings.kernels_instructions,
    )
    catalogue = Catalogue.open(artifacts or settings.artifacts, engine)
    names = [name.strip() for name in outputs.split(",")]
    plan = Plan.make(
        catalogue, activation, params=parameters(param), dtype=element_type, outputs=names
    )
    with _progress(source.name) as progress:
        count = evaluate_file(
            source,
            output,
            inputs=plan.graph.input_names,
            outputs=plan.outputs,
            dtype=element_type,
            compute=lambda tensors: run(plan.call(tensors)),
            chunk_elements=chunk,
            progress=progress,
        )
    formula = plan.function.formula
    if as_json:
        terminal.say_json(
            {"written": str(output), "outputs": names, "elements": count, "formula": formula}
        )
    else:
        typer.echo(f"wrote {output}: {', '.join(names)} at {count} elements, {formula}")


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

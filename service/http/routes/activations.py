"""GET /activations and below: records, plots, models and certificates."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request, Response

from gatewave.service.activations.artifact import read_artifact
from gatewave.service.activations.catalogue import Catalogue, Entry, Function
from gatewave.service.codecs.datatypes import DType
from gatewave.service.errors import ArtifactInvalid, NameUnknown, RequestInvalid
from gatewave.service.http.media import preferences
from gatewave.service.http.schemas import (
    ActivationList,
    ActivationSummary,
    ActivationView,
    FunctionView,
)
from gatewave.service.quoting import Words, quoted

router = APIRouter(prefix="/activations", tags=["describe"])

CERTIFICATES = {"application/json": ".json", "text/html": ".html"}
PICTURES = {"svg": "image/svg+xml", "png": "image/png"}


@router.get("")
async def list_activations(request: Request) -> ActivationList:
    """List the activations."""
    root_path = request.app.state.service.settings.root_path
    return ActivationList(activations=[_summary(e, root_path) for e in _catalogue(request)])


@router.get("/{name}")
async def describe(name: str, request: Request) -> ActivationView:
    """Return the record: formula, derivatives, properties, uses, limits, source, error bounds."""
    entry = _catalogue(request).entry(name, at="name")
    functions = [_function(function) for function in entry.functions]
    example = {"activation": name, "inputs": entry.example}
    return ActivationView(**entry.record, functions=functions, example=example)


@router.get("/{name}/plot.{kind}", response_class=Response)
async def plot(name: str, kind: Literal["svg", "png"], request: Request) -> Response:
    """Plot the function and its derivatives: curves, or filled contours for two inputs.

    Parameters with choices select the formula: `?gate=linear`.
    """
    catalogue = _catalogue(request)
    function = _selected(catalogue.entry(name, at="name"), request, ())
    path = catalogue.folder / f"{function.stem}.{kind}"
    return _file(await _read(path), PICTURES[kind])


@router.get("/{name}/model.onnx", response_class=Response)
async def model(
    name: str,
    request: Request,
    dtype: DType = "float32",
    graph: Literal["value", "grad", "vjp"] = "value",
    form: Literal["function", "decomposed"] = "function",
) -> Response:
    """Return the ONNX model: one node of the domain ai.gatewave, or standard operators only.

    `graph` is the value, the value with all partial derivatives (`grad`), or the vector-Jacobian
    product (`vjp`). Parameters with choices select the formula: `?gate=linear`.
    """
    catalogue = _catalogue(request)
    function = _selected(catalogue.entry(name, at="name"), request, ("dtype", "graph", "form"))
    suffix = ".decomposed" if form == "decomposed" else ""
    path = catalogue.folder / f"{function.stem}.{graph}.{dtype}{suffix}.onnx"
    content = await _read(path)
    if sha256(content).hexdigest() != catalogue.digests.get(path.name):
        expected = "an artifact that has not changed since the service started"
        raise NameUnknown.at("path", expected, path.name)
    return _file(content, "application/octet-stream", path.name)


@router.get(
    "/{name}/certificate",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in CERTIFICATES}}},
)
async def certificate(name: str, request: Request) -> Response:
    """Return the certificate: the results of runtimes, and their errors.

    It is JSON, or a page of HTML if `Accept` names that first. It is served only if the models name
    its SHA-256 in their metadata; `gatewave certify NAME --artifacts FOLDER` makes it.
    """
    catalogue = _catalogue(request)
    entry = catalogue.entry(name, at="name")
    path = catalogue.folder / f"{entry.name}.certificate.json"
    content = await _read(path, otherwise=b"")
    if sha256(content).hexdigest() not in entry.certificates:
        expected = "an activation whose models name a certificate: gatewave certify"
        raise NameUnknown.at("name", expected, name)
    kind = _preferred(request.headers.get("accept", ""))
    page = path.with_suffix(CERTIFICATES[kind])
    return _file(content if page == path else await _read(page), kind)


def _preferred(accept: str) -> str:
    """Return the preferred type: HTML if it is named before JSON, as browsers do."""
    named = preferences(accept, "Accept")
    return next((kind for kind in named if kind in CERTIFICATES), next(iter(CERTIFICATES)))


def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.service.catalogue
    return catalogue


def _selected(entry: Entry, request: Request, other: tuple[str, ...]) -> Function:
    """Return the function that the query selects; scalar parameters change no file."""
    choices = {n: value for n, value in request.query_params.items() if n not in other}
    for name in choices:
        if name not in entry.words:
            known = ", ".join((*entry.words, *other))
            expected = f"one of the query parameters {known}" if known else "no query parameters"
            unknown = Words(f"the unknown query parameter {quoted(name)}")
            raise RequestInvalid.at(f"query.{name}", expected, unknown)
    return entry.select(choices, at="query")


async def _read(path: Path, otherwise: bytes | None = None) -> bytes:
    """Return the content of a file, read completely: it may change while an answer is sent.

    Raises:
        NameUnknown: There is no such file, and no ``otherwise``.
    """
    try:
        return await asyncio.to_thread(read_artifact, path)
    except ArtifactInvalid as error:
        if otherwise is not None:
            return otherwise
        raise NameUnknown.at("path", "the name of an exported artifact", path.name) from error


def _file(content: bytes, media_type: str, filename: str | None = None) -> Response:
    headers = {"Cache-Control": "public, max-age=3600", "ETag": f'"{sha256(content).hexdigest()}"'}
    if filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return Response(content, media_type=media_type, headers=headers)


def _summary(entry: Entry, root_path: str) -> ActivationSummary:
    return ActivationSummary(
        name=entry.name,
        title=entry.record["title"],
        summary=entry.record["summary"],
        inputs=entry.record["inputs"],
        formulas=[function.formula for function in entry.functions],
        implementations=entry.implementations,
        href=f"{root_path}/activations/{entry.name}",
    )


def _function(function: Function) -> FunctionView:
    record = function.record
    return FunctionView(
        choice=record["choice"],
        op_type=record["op_type"],
        formula=record["formula"],
        derivatives=record["derivatives"],
        parameters=record["reals"],
        dtypes=function.dtypes,
        outputs=function.outputs,
        implementations=function.implementations,
        scale=record["scale"],
        bounds=record["bounds"],
    )

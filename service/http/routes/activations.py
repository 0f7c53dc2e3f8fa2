"""GET /activations and below: the records, their pictures and their models."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request, Response

from gatewave.service.activations.catalogue import Catalogue, Entry, Function, read_artifact
from gatewave.service.codecs.datatypes import DType
from gatewave.service.errors import ArtifactInvalid, NameUnknown, RequestInvalid
from gatewave.service.http.media import preferences
from gatewave.service.http.schemas import (
    ActivationList,
    ActivationSummary,
    ActivationView,
    FunctionView,
)

router = APIRouter(prefix="/activations", tags=["describe"])

CERTIFICATES = {"application/json": ".json", "text/html": ".html"}
PICTURES = {"svg": "image/svg+xml", "png": "image/png"}


@router.get("")
async def list_activations(request: Request) -> ActivationList:
    """All activations that can be evaluated."""
    root_path = request.app.state.service.settings.root_path
    return ActivationList(activations=[_summary(e, root_path) for e in _catalogue(request)])


@router.get("/{name}")
async def describe(name: str, request: Request) -> ActivationView:
    """The record: formula, derivatives, properties, uses, limits, source and error bounds."""
    entry = _catalogue(request).entry(name, at="name")
    functions = [_function(function) for function in entry.functions]
    example = {"activation": name, "inputs": entry.example}
    return ActivationView(**entry.record, functions=functions, example=example)


@router.get("/{name}/plot.{kind}", response_class=Response)
async def plot(name: str, kind: Literal["svg", "png"], request: Request) -> Response:
    """The function and its derivatives: curves, or filled contours for two inputs.

    A parameter that is a word chooses the formula: `?gate=linear`.
    """
    catalogue = _catalogue(request)
    function = _chosen(catalogue.entry(name, at="name"), request, ())
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
    """The ONNX model: one node of our domain with its body, or in standard operators only.

    `graph` is the value, the value with all partial derivatives (`grad`), or the vector-Jacobian
    product (`vjp`). A parameter that is a word chooses the formula: `?gate=linear`.
    """
    catalogue = _catalogue(request)
    function = _chosen(catalogue.entry(name, at="name"), request, ("dtype", "graph", "form"))
    suffix = ".decomposed" if form == "decomposed" else ""
    path = catalogue.folder / f"{function.stem}.{graph}.{dtype}{suffix}.onnx"
    content = await _read(path)
    if sha256(content).hexdigest() != catalogue.digests.get(path.name):
        expected = "an artifact as it was when the service started: start it again"
        raise NameUnknown.at("path", expected, path.name)
    return _file(content, "application/octet-stream", path.name)


@router.get(
    "/{name}/certificate",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in CERTIFICATES}}},
)
async def certificate(name: str, request: Request) -> Response:
    """What runtimes made of the models, and how far that is from exact results.

    JSON; a page of HTML for who accepts that rather. It is shown only if the models name it, by
    its SHA-256, in their metadata: `gatewave certify NAME --artifacts FOLDER` makes it.
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
    """HTML where it is named before JSON, as browsers do."""
    named = preferences(accept, "Accept")
    return next((kind for kind in named if kind in CERTIFICATES), next(iter(CERTIFICATES)))


def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.service.catalogue
    return catalogue


def _chosen(entry: Entry, request: Request, other: tuple[str, ...]) -> Function:
    """The function that the query's words choose; scalar parameters change no file."""
    words = {n: value for n, value in request.query_params.items() if n not in other}
    for name, word in words.items():
        if name not in entry.words:
            known = ", ".join((*entry.words, *other))
            expected = f"only {known}" if known else "no query"
            raise RequestInvalid.at(f"query.{name}", expected, word)
    return entry.select(words, at="query")


async def _read(path: Path, otherwise: bytes | None = None) -> bytes:
    """Return the content of a file, read at once: it may change while an answer is sent.

    Raises:
        NameUnknown: There is no such file, and no ``otherwise``.
    """
    try:
        return await asyncio.to_thread(read_artifact, path)
    except ArtifactInvalid as error:
        if otherwise is not None:
            return otherwise
        raise NameUnknown.at("path", "an artifact that was exported", path.name) from error


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

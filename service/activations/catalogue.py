"""The activations that can be evaluated: what the artifacts folder holds, by name and choice."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from gatewave.service.activations.graph import Graph
from gatewave.service.codecs.datatypes import BY_NUMPY, DTYPES, NUMPY, DType
from gatewave.service.codecs.rounding import narrowed
from gatewave.service.codecs.wire import MalformedError
from gatewave.service.errors import ArtifactInvalid, NameUnknown, RequestInvalid
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.nodes import operators
from gatewave.service.onnx.session import Session
from gatewave.service.serving.model import ANY, Port

METADATA_KEY = "ai.gatewave.activation"
CERTIFICATE_KEY = "ai.gatewave.certificate"
MANIFEST = "manifest.json"
"""List of the files that `gatewave export` wrote; a folder that was put together has none."""
SCHEMA = 1
DEFAULT_DTYPE: DType = "float32"
GRAPHS = ("value", "grad", "vjp")
"""From the cheapest: a request gets the first whose outputs are enough."""

Params = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Function:
    """One formula: what an activation means for one choice of its words."""

    record: Mapping[str, Any]
    graphs: Mapping[tuple[str, DType], Graph]

    @property
    def stem(self) -> str:
        stem: str = self.record["stem"]
        return stem

    @property
    def formula(self) -> str:
        formula: str = self.record["formula"]
        return formula

    @property
    def choice(self) -> Mapping[str, str]:
        choice: Mapping[str, str] = self.record["choice"]
        return choice

    @property
    def scalars(self) -> Mapping[str, float]:
        scalars: Mapping[str, float] = self.record["reals"]
        return scalars

    @property
    def dtypes(self) -> list[DType]:
        return [dtype for dtype in DTYPES if any(key[1] == dtype for key in self.graphs)]

    @property
    def implementations(self) -> dict[str, dict[DType, str]]:
        """What computes it, by graph and dtype."""
        found: dict[str, dict[DType, str]] = {}
        for (kind, dtype), graph in self.graphs.items():
            found.setdefault(kind, {})[dtype] = graph.implementation
        return {kind: found[kind] for kind in GRAPHS if kind in found}

    @property
    def outputs(self) -> list[str]:
        """All that it can give, from the cheapest graph on."""
        given = [
            name
            for kind in GRAPHS
            for key, g in self.graphs.items()
            if key[0] == kind
            for name in g.output_names
        ]
        return list(dict.fromkeys(given))

    def graph(self, dtype: DType, outputs: Sequence[str]) -> Graph:
        """The cheapest graph that gives ``outputs``.

        Raises:
            RequestInvalid: There is no such dtype, no such output, or no graph with all of them.
        """
        graphs = [self.graphs[kind, dtype] for kind in GRAPHS if (kind, dtype) in self.graphs]
        if not graphs:
            raise RequestInvalid.at("dtype", f"one of {', '.join(self.dtypes)}", dtype)
        for graph in graphs:
            if set(outputs) <= set(graph.output_names):
                return graph
        known = {name for graph in graphs for name in graph.output_names}
        for index, name in enumerate(outputs):
            if name not in known:
                wanted = f"one of {', '.join(sorted(known))}"
                raise RequestInvalid.at(f"outputs[{index}]", wanted, name)
        sets = " or ".join("{" + ", ".join(graph.output_names) + "}" for graph in graphs)
        raise RequestInvalid.at("outputs", f"names from one of {sets}", ", ".join(outputs))


@dataclass(frozen=True, slots=True)
class Entry:
    """An activation: its record, and a function for each choice, the default first.

    Attributes:
        certificates: The SHA-256 of each certificate that its models name.
    """

    record: Mapping[str, Any]
    functions: tuple[Function, ...]
    example: Mapping[str, list[float]]
    certificates: frozenset[str]

    @property
    def name(self) -> str:
        name: str = self.record["name"]
        return name

    @property
    def words(self) -> tuple[str, ...]:
        """The parameters that choose a formula."""
        return tuple(p["name"] for p in self.record["parameters"] if p["choices"])

    @property
    def implementations(self) -> list[str]:
        """What computes its graphs, each way once."""
        graphs = (graph for function in self.functions for graph in function.graphs.values())
        return sorted({graph.implementation for graph in graphs})

    def select(self, params: Params, *, at: str = "params") -> Function:
        """The function that ``params`` choose.

        Raises:
            RequestInvalid: A parameter is unknown, of the wrong kind, or not of that function.
        """
        known = {parameter["name"]: parameter for parameter in self.record["parameters"]}
        for name, value in params.items():
            if name not in known:
                expected = f"only {', '.join(known)}" if known else "no parameters"
                raise RequestInvalid.at(f"{at}.{name}", expected, value)
            _check_parameter(known[name], value, f"{at}.{name}")
        words = {n: params.get(n, p["default"]) for n, p in known.items() if p["choices"]}
        function = next((f for f in self.functions if f.choice == words), None)
        if function is None:
            raise RequestInvalid.at(at, "a choice that was exported", words)
        for name in params:
            if name not in words and name not in function.scalars:
                chosen = ", ".join(f"{n}={w}" for n, w in words.items())
                expected = f"no such parameter with {chosen}"
                raise RequestInvalid.at(f"{at}.{name}", expected, params[name])
        return function


def _check_parameter(parameter: Mapping[str, Any], value: object, field: str) -> None:
    choices = parameter["choices"]
    if choices:
        if value not in choices:
            raise RequestInvalid.at(field, f"one of {', '.join(choices)}", value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise RequestInvalid.at(field, "a finite number", value)


class Catalogue:
    """What the artifacts folder holds, loaded and proved on the engine's device."""

    def __init__(self, folder: Path, entries: Mapping[str, Entry], engine: Engine) -> None:
        self.folder = folder
        # Of all models that are offered, also of those that this service does not run.
        self.digests = {
            path.name: sha256(read_artifact(path)).hexdigest() for path in _models_in(folder)
        }
        self.entries = entries
        self.engine = engine

    @classmethod
    def open(cls, folder: Path, engine: Engine) -> Catalogue:
        """Load every artifact, and check each against the example that it carries.

        Raises:
            ArtifactInvalid: The folder holds none, lacks one that its manifest lists, or one does
                not load or answers wrongly.
            KernelsUnavailable: The kernels are demanded, and lack one.
        """
        check_manifest(folder)
        paths = artifact_paths(folder)
        if not paths:
            msg = f"{folder} holds no artifacts: run `make export`, or `gatewave export`"
            raise ArtifactInvalid(msg)
        loaded = [load(path, engine) for path in paths]
        return cls(folder, {entry.name: entry for entry in _entries(loaded)}, engine)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def graphs(self) -> list[Graph]:
        """Every graph of every function: each is a model."""
        return [
            graph
            for entry in self
            for function in entry.functions
            for graph in function.graphs.values()
        ]

    def entry(self, name: str, *, at: str = "activation") -> Entry:
        """The activation called ``name``.

        Raises:
            NameUnknown: There is none.
        """
        if name not in self.entries:
            raise NameUnknown.at(at, f"one of {', '.join(self.entries)}", name)
        return self.entries[name]


def check_manifest(folder: Path) -> None:
    """Check that all files are there that the manifest lists, if there is a manifest.

    Raises:
        ArtifactInvalid: A file is missing, or the manifest cannot be read.
    """
    manifest = folder / MANIFEST
    if not os.path.lexists(manifest):
        return
    try:
        files = json.loads(read_artifact(manifest))["files"]
        missing = [name for name in files if not (folder / name).exists()]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactInvalid(f"{manifest}: expected an object with a list of files") from error
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        msg = (
            f"{folder / missing[0]} is missing{more}, and {MANIFEST} lists it: "
            "run `gatewave export` again, or delete the manifest"
        )
        raise ArtifactInvalid(msg)


def artifact_paths(folder: Path) -> list[Path]:
    """The files to serve from: of each graph the form with the function, if it is there."""
    paths = {path.name: path for path in _models_in(folder)}
    return [
        path
        for name, path in paths.items()
        if not name.endswith(".decomposed.onnx")
        or name.replace(".decomposed.onnx", ".onnx") not in paths
    ]


def _models_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.onnx"))


def read_artifact(path: Path) -> bytes:
    """Return the content of a regular file; opening a pipe would block.

    Raises:
        ArtifactInvalid: The file is missing, is a broken link, or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArtifactInvalid(f"{path}: expected a regular file")
            return file.read()
    except IsADirectoryError as error:
        raise ArtifactInvalid(f"{path}: expected a regular file, got a folder") from error
    except OSError as error:
        raise ArtifactInvalid(f"{path} cannot be read: {error.strerror}") from error


Document = dict[str, Any]


def _model_name(stem: str, kind: str, dtype: DType) -> str:
    """What the graph is called among models: ``sinc``, ``sinc.grad``, ``sinc.grad.float64``."""
    suffixes = [kind if kind != GRAPHS[0] else "", dtype if dtype != DEFAULT_DTYPE else ""]
    return ".".join([stem, *filter(None, suffixes)])


def _ports(names: Sequence[str], dtype: DType) -> tuple[Port, ...]:
    datatype = BY_NUMPY[NUMPY[dtype]].name
    return tuple(Port(name, datatype, (ANY,)) for name in names)


def load(path: Path, engine: Engine) -> tuple[Document, Graph]:
    """Load one artifact and prove it: its example must come out as it says.

    Raises:
        ArtifactInvalid: It does not load, carries no record of ours, or answers wrongly.
        KernelsUnavailable: The kernels are demanded, and have none for its node.
    """
    model = read_artifact(path)
    ours, nodes = _operators(path, model)
    session, metadata = engine.open(path, model, ours)
    document = _document(path, metadata)
    document["certificate"] = metadata.get(CERTIFICATE_KEY)
    graph = Graph(
        path=path,
        kind=document["graph"],
        dtype=document["dtype"],
        name=_model_name(document["operator"]["stem"], document["graph"], document["dtype"]),
        inputs=_ports(document["inputs"], document["dtype"]),
        outputs=_ports(document["outputs"], document["dtype"]),
        scalars=document["operator"]["reals"],
        session=Session(
            session,
            lambda: engine.open(path, model, ours)[0],
            document["dtype"],
            in_one_pass=nodes == 1 and bool(ours) and ours <= engine.kernels.operators,
        ),
        implementation=engine.kernels.serving(ours),
    )
    _prove(graph, document)
    graph.session.unload()
    return document, graph


def _operators(path: Path, model: bytes) -> tuple[frozenset[str], int]:
    try:
        return operators(model)
    except MalformedError as error:
        raise ArtifactInvalid(f"{path} is no ONNX file: {error}") from error


def _document(path: Path, metadata: Mapping[str, str]) -> Document:
    try:
        document: Document = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError) as error:
        msg = f"{path}: no record in its metadata ({METADATA_KEY}): not made by `gatewave export`"
        raise ArtifactInvalid(msg) from error
    if document.get("schema") != SCHEMA:
        msg = f"{path}: its record has schema {document.get('schema')}, not {SCHEMA}: export again"
        raise ArtifactInvalid(msg)
    return document


def _prove(graph: Graph, document: Document) -> None:
    example = document["example"]
    tensors = {
        name: narrowed(np.array(values), graph.dtype)[0]
        for name, values in example["inputs"].items()
    }
    results = graph.run(tensors, graph.output_names, {})
    for name, exact in example["outputs"].items():
        got, want = results[name].astype(np.float64), np.array(exact)
        # The exact result travels as float64, which is half a unit in the last place off itself.
        allowed = np.array(example["allowed"][name]) + np.spacing(np.abs(want))
        if not np.all(np.abs(got - want) <= allowed):
            msg = f"{graph.path}: {name} of its example is {got.tolist()}, not {exact}"
            raise ArtifactInvalid(msg)


def _entries(loaded: Sequence[tuple[Document, Graph]]) -> Iterator[Entry]:
    by_name: dict[str, dict[str, list[tuple[Document, Graph]]]] = {}
    for document, graph in loaded:
        stems = by_name.setdefault(document["activation"]["name"], {})
        stems.setdefault(document["operator"]["stem"], []).append((document, graph))
    for stems in by_name.values():
        document = next(iter(stems.values()))[0][0]
        record = document["activation"]
        example = {name: document["example"]["inputs"][name] for name in record["inputs"]}
        functions = [
            Function(found[0][0]["operator"], _graphs([graph for _, graph in found]))
            for found in stems.values()
        ]
        first, *others = sorted(functions, key=lambda f: _rank(record, f))
        named = {found["certificate"] for graphs in stems.values() for found, _ in graphs}
        certificates = frozenset(named - {None})
        yield Entry(record, (_renamed(first, record["name"]), *others), example, certificates)


def _renamed(function: Function, name: str) -> Function:
    """The default function, whose models are called as the activation is."""
    graphs = {
        key: replace(graph, name=_model_name(name, *key)) for key, graph in function.graphs.items()
    }
    return replace(function, graphs=graphs)


def _graphs(loaded: Sequence[Graph]) -> dict[tuple[str, DType], Graph]:
    graphs: dict[tuple[str, DType], Graph] = {}
    for graph in loaded:
        known = graphs.setdefault((graph.kind, graph.dtype), graph)
        if known is not graph:
            raise ArtifactInvalid(f"{known.path} and {graph.path} hold the same graph: keep one")
    return graphs


def _rank(record: Mapping[str, Any], function: Function) -> list[int]:
    """The default choice first, then as the record lists the words."""
    return [
        parameter["choices"].index(function.choice[parameter["name"]])
        - len(parameter["choices"]) * (function.choice[parameter["name"]] == parameter["default"])
        for parameter in record["parameters"]
        if parameter["choices"]
    ]

"""Activations that can be evaluated, selected by name, parameters, dtype and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from gatewave.service.activations.artifact import (
    GRAPHS,
    Document,
    artifact_paths,
    check_manifest,
    load,
    model_files,
    model_name,
    read_artifact,
)
from gatewave.service.activations.model import ActivationModel
from gatewave.service.codecs.datatypes import DTYPES, DType
from gatewave.service.errors import ArtifactInvalid, NameUnknown, RequestInvalid
from gatewave.service.onnx.engine import Engine
from gatewave.service.serving.model import is_finite

Params = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Function:
    """Formula of an activation, for one choice of the parameters that are words."""

    record: Mapping[str, Any]
    graphs: Mapping[tuple[str, DType], ActivationModel]

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
        """Implementations by kind of graph and dtype."""
        found: dict[str, dict[DType, str]] = {}
        for (kind, dtype), graph in self.graphs.items():
            found.setdefault(kind, {})[dtype] = graph.implementation
        return {kind: found[kind] for kind in GRAPHS if kind in found}

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs, those of the cheapest graph first."""
        given = [
            name
            for kind in GRAPHS
            for key, g in self.graphs.items()
            if key[0] == kind
            for name in g.output_names
        ]
        return list(dict.fromkeys(given))

    def graph(self, dtype: DType, outputs: Sequence[str]) -> ActivationModel:
        """Return the cheapest graph with all of ``outputs``.

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
    """Activation with its record, and a function for each choice, the default first.

    Attributes:
        certificates: SHA-256 digests of the certificates that its models name.
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
        """Names of the parameters that select a formula."""
        return tuple(p["name"] for p in self.record["parameters"] if p["choices"])

    @property
    def implementations(self) -> list[str]:
        """Implementations of its graphs, each once."""
        graphs = (graph for function in self.functions for graph in function.graphs.values())
        return sorted({graph.implementation for graph in graphs})

    def select(self, params: Params, *, at: str = "params") -> Function:
        """Return the function that ``params`` select.

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
    elif isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
        raise RequestInvalid.at(field, "a finite number", value)


class Catalogue:
    """Activations of the artifacts folder, loaded and checked on the engine's device."""

    def __init__(self, folder: Path, entries: Mapping[str, Entry], engine: Engine) -> None:
        self.folder = folder
        # All models can be downloaded, also the decomposed ones, which the service does not run.
        self.digests = {
            path.name: sha256(read_artifact(path)).hexdigest() for path in model_files(folder)
        }
        self.entries = entries
        self.engine = engine

    @classmethod
    def open(cls, folder: Path, engine: Engine) -> Catalogue:
        """Load all artifacts, and check that each computes its own example.

        Raises:
            ArtifactInvalid: There is no artifact, one of the manifest is missing, one does not
                load, or its results are wrong.
            KernelsUnavailable: The kernels are required, and one is missing.
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

    def graphs(self) -> list[ActivationModel]:
        """Return the models of all functions."""
        return [
            graph
            for entry in self
            for function in entry.functions
            for graph in function.graphs.values()
        ]

    def entry(self, name: str, *, at: str = "activation") -> Entry:
        """Return the activation ``name``.

        Raises:
            NameUnknown: There is no such activation.
        """
        if name not in self.entries:
            raise NameUnknown.at(at, f"one of {', '.join(self.entries)}", name)
        return self.entries[name]


def _entries(loaded: Sequence[tuple[Document, ActivationModel]]) -> Iterator[Entry]:
    by_name: dict[str, dict[str, list[tuple[Document, ActivationModel]]]] = {}
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
    """Return the default function, with models that have the name of the activation."""
    graphs = {
        key: replace(graph, name=model_name(name, *key)) for key, graph in function.graphs.items()
    }
    return replace(function, graphs=graphs)


def _graphs(loaded: Sequence[ActivationModel]) -> dict[tuple[str, DType], ActivationModel]:
    graphs: dict[tuple[str, DType], ActivationModel] = {}
    for graph in loaded:
        known = graphs.setdefault((graph.kind, graph.dtype), graph)
        if known is not graph:
            raise ArtifactInvalid(f"{known.path} and {graph.path} hold the same graph: keep one")
    return graphs


def _rank(record: Mapping[str, Any], function: Function) -> list[int]:
    """Return a sort key: the default choice first, then the order of the record."""
    return [
        parameter["choices"].index(function.choice[parameter["name"]])
        - len(parameter["choices"]) * (function.choice[parameter["name"]] == parameter["default"])
        for parameter in record["parameters"]
        if parameter["choices"]
    ]

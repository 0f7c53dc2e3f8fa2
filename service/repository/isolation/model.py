"""Isolated model: a version of the repository that is computed in processes of its own."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gatewave.service.codecs.datatypes import Array
from gatewave.service.repository.isolation.messages import to_port
from gatewave.service.repository.isolation.pool import ProcessPool
from gatewave.service.repository.model import RepositoryModel
from gatewave.service.serving.model import Batching
from gatewave.service.system.cancellation import CancelToken


@dataclass(frozen=True, eq=False, kw_only=True)
class IsolatedModel(RepositoryModel):
    """One version of a model of the repository, computed in processes of its own."""

    pool: ProcessPool
    computed_by: str

    @property
    def provider(self) -> str:
        return self.computed_by

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        scalars: Mapping[str, float],  # noqa: ARG002 - untrusted graphs have none
        token: CancelToken | None = None,
        *,
        reuse_inputs: bool = False,  # noqa: ARG002 - results come from another process
    ) -> dict[str, Array]:
        """Compute ``outputs``.

        Raises:
            ModelFailed: The graph could not be run on these inputs, or ended its process.
            LimitExceeded: The results are too large.
        """
        return self.pool.run(inputs, outputs, token)


def start_isolated(
    version: tuple[str, str],
    pool: ProcessPool,
    *,
    batching: Batching | None,
    batching_note: str = "",
    instances: int,
    reason: str,
    warmup: str = "",
) -> IsolatedModel:
    """Start the processes of a version; they end when the model is no longer referenced.

    Args:
        version: The model's name and the version.
        pool: The processes that compute it.
        batching: The batching of its requests.
        batching_note: The reason for batching or its absence.
        instances: The number of processes.
        reason: The reason for the isolation.
        warmup: The shapes of inputs that it first ran on, if sizes were raised for it.

    Raises:
        ModelRefused: The model cannot be served.
        TrialUnfinished: It was not loaded in time, or a process ended.
    """
    signature = pool.start(instances)
    name, number = version
    model = IsolatedModel(
        name=name,
        version=number,
        inputs=tuple(map(to_port, signature.inputs)),
        outputs=tuple(map(to_port, signature.outputs)),
        optional=frozenset(signature.optional),
        unranked=frozenset(signature.unranked),
        symbols={port: tuple(symbols) for port, symbols in signature.symbols.items()},
        batching=batching,
        batching_note=batching_note,
        instances=instances,
        isolation=f"process: {reason}",
        warmup=warmup,
        pool=pool,
        computed_by=signature.provider,
    )
    # Requests under way refer to the model, so that waiting requests are still answered.
    weakref.finalize(model, pool.close).atexit = False
    return model

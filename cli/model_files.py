"""Reading models, and writing rewritten ones after they were verified or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gatewave.cli import terminal
from gatewave.cli.errors import CommandError, needing

if TYPE_CHECKING:
    import onnx_ir as ir

    from gatewave.graphs.rewrite.outcome import Change
    from gatewave.graphs.verify.report import Report
    from gatewave.graphs.verify.verification_plan import VerificationPlan

UNTRIED = "--no-verify writes it without running it"


@dataclass(frozen=True)
class RunOnly:
    """Result of running a model that computes another function and is therefore not compared.

    Attributes:
        run_by: The runtimes that ran it, in words; empty if it was not run.
        notes: Notes on the written model.
    """

    run_by: Sequence[str] = ()
    notes: Sequence[str] = ()

    def words(self) -> str:
        run = f"run by {' and '.join(self.run_by)}" if self.run_by else "not run"
        return f"another function, so not compared; {run}"


def read(path: Path) -> ir.Model:
    """Return the model in the file ``path``.

    Raises:
        ModelError: There is no such file, or it holds no sound model.
        ExtraMissingError: onnx is not installed.
    """
    with needing("graphs"):
        from gatewave.graphs.files import files
    with terminal.working("reading the model"):
        return files.read(path)


def write_verified(
    model: ir.Model, path: Path, *, source: Path, changes: Sequence[Change], plan: VerificationPlan
) -> Report:
    """Write ``model`` if no difference from ``source`` is found; without a change, do not run it.

    Raises:
        VerificationError: A difference was found; the model is not written.
        CommandError: No runtime runs ``source``.
    """
    from gatewave.graphs.errors import NotRunnableError
    from gatewave.graphs.verify import verified_files

    try:
        if not changes:
            return verified_files.write_unchanged(path, source=source, plan=plan)
        with terminal.working("running both models"):
            plan = replace(plan, local=True)
            return verified_files.write_verified(model, path, source=source, plan=plan)
    except NotRunnableError as error:
        raise CommandError(f"{error}; {UNTRIED}") from error


def write_running(model: ir.Model, path: Path, *, source: Path, plan: VerificationPlan) -> RunOnly:
    """Write ``model`` if it runs on generated inputs: on ONNX Runtime, if that runs ``source``.

    Raises:
        VerificationError: The results of the kernels and of the bodies differ; it is not written.
        NotRunnableError: No runtime runs it, or that of ``source`` does not; it is not written.
    """
    from gatewave.graphs.verify import verified_files

    with terminal.working("running the model"):
        report = verified_files.write_running(model, path, source=source, plan=plan)
    return RunOnly([*dict.fromkeys(ran.runtime for ran in report.ran)])


def write(model: ir.Model, path: Path, *, source: Path) -> None:
    """Write ``model`` without running it.

    Raises:
        NotWrittenError: The file cannot be written.
    """
    from gatewave.graphs.files import files

    files.write(model, path, source=source)

"""Support of a target runtime for a model: the verdict and its evidence, in words."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewave.cli import terminal
from gatewave.cli.errors import CommandError, needing

if TYPE_CHECKING:
    import onnx_ir as ir

    from gatewave.graphs.rewrite.lower.problems import Problem
    from gatewave.graphs.targets import Target
    from gatewave.graphs.targets.verdicts import Loading


@contextlib.contextmanager
def target_named(name: str) -> Iterator[Target]:
    """Yield the target called ``name``; an installed target can load models itself.

    Raises:
        TargetError: There is no such target.
        ExtraMissingError: onnx or ONNX Runtime is not installed.
    """
    with needing("graphs"):
        from gatewave.certificates.runtimes import installed_targets
    with contextlib.ExitStack() as open_until_done:
        with terminal.working("asking the runtime"):
            found = open_until_done.enter_context(installed_targets.target_named(name))
        yield found


def loading(target: Target, path: Path, model: ir.Model) -> Loading:
    """Load the model in ``path`` in the target itself, if it is installed here."""
    from gatewave.graphs.targets.verdicts import Loading

    if target.live is None:
        return Loading(missing=f"{target.name} is not installed here")
    with terminal.working("loading the model in the target"):
        return target.live.load(path, model)


def loading_of(target: Target, model: ir.Model, *, source: Path) -> Loading:
    """Load ``model``, rewritten from the one in ``source``, in the target, from a copy."""
    from gatewave.graphs.files import files

    with tempfile.TemporaryDirectory(prefix="gatewave-") as folder:
        copy = Path(folder) / "model.onnx"
        if target.live is not None:
            files.write(model, copy, source=source)
        return loading(target, copy, model)


@dataclass(frozen=True)
class Assessment:
    """Support of a target for a model.

    Attributes:
        target: Its name.
        problems: Reasons why the model does not run, and nodes that are not known to run.
        loading: The result of loading it in the target itself.
        table: The runtime whose probed table was used, if one was.
        notes: Deviations of the target from the model.
    """

    target: str
    problems: Sequence[Problem]
    loading: Loading
    table: str = ""
    notes: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """The verdict; ``runs`` only if everything in the model is known to run."""
        if any(problem.known for problem in self.problems):
            return "does not run"
        return "not known" if self.problems else "runs"

    def document(self) -> dict[str, Any]:
        """The verdict as a JSON document."""
        return {
            "name": self.target,
            "verdict": self.verdict,
            "summary": self.summary(),
            "loaded_by": self.loading.by if self.loading.loads else None,
            "not_loaded": self.loading.refused or self.loading.missing or None,
            "notes": [*self.notes],
            "problems": [asdict(problem) for problem in self.problems],
        }

    def lines(self) -> Iterator[str]:
        """Yield a line for each problem, and one for each operator that was not tried."""
        for problem in self.problems:
            if problem.known:
                place = ": ".join(w for w in (problem.scope, problem.node) if w) or "the model"
                yield f"{self.target}: {place}: {problem.why}"
        yield from not_known(self.problems)
        yield from (f"{self.target}: {note}" for note in self.notes)

    def summary(self) -> str:
        """The verdict and its evidence, in a line."""
        evidence = self._evidence()
        if self.verdict == "runs":
            but = "".join(f", but {note}" for note in self.notes)
            return f"{self.target} runs it{but}: {evidence}"
        if self.verdict == "not known":
            count = _counted(len(_unknown(self.problems)), "operator")
            return f"not known: whether {self.target} runs {count} of it; {evidence}"
        count = _counted(sum(problem.known for problem in self.problems), "problem")
        return f"{self.target} does not run it: {count}; {evidence}"

    def of_result(self, runtimes: Sequence[str]) -> str:
        """Return the runtimes that ran the written model, and the target's result, in a few words.

        Args:
            runtimes: The runtimes that ran it for comparison, in words; empty if it was not run.
        """
        alone = " alone" if len(runtimes) == 1 else ""
        words = [f"run by {' and '.join(runtimes)}{alone}"] if runtimes else []
        if self.loading.loads:
            words.append(f"loaded by {self.loading.by}")
        elif self.loading.refused:
            words.append(f"refused by {self.loading.by}")
        else:
            words.append(f"not known: {self.loading.missing}")
        if unknown := len(_unknown(self.problems)):
            count = _counted(unknown, "operator")
            words.append(f"not known: whether {self.target} runs {count} of it")
        return "; ".join(words)

    def _evidence(self) -> str:
        if self.loading.loads:
            return f"{self.loading.by} loaded it"
        if self.loading.refused:
            return f"{self.loading.by} refused it"
        seen = f"each of its nodes was loaded by {self.table}" if self.table else "by its file"
        found = f"{seen}; " if self.verdict == "runs" else ""
        return f"{found}it was not loaded there: {self.loading.missing}"


def assess(target: Target, model: ir.Model, found: Loading) -> Assessment:
    """Assess the support of ``target`` for ``model``, given the result of loading it."""
    from gatewave.graphs.rewrite.lower.problems import problems

    listed = problems(model, target, found)
    table = target.table.runtime if target.table else ""
    return Assessment(target.name, listed, found, table, _notes(target, model))


def _notes(target: Target, model: ir.Model) -> list[str]:
    import onnx_ir as ir

    from gatewave.graphs.analysis import element_types

    narrowed = target.defect("float64-as-float32")
    if narrowed is None or ir.DataType.DOUBLE not in element_types.of_model(model).values():
        return []
    return [narrowed.says]


def require_loading(found: Assessment) -> None:
    """Stop the command if the target refused the model.

    Raises:
        CommandError: The target refused it; the message has the full reason and the nodes at fault.
    """
    if found.loading.refused:
        whys = [problem.why for problem in found.problems if problem.known]
        raise CommandError("; ".join(whys))


def not_known(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a line for each operator and element type that was not tried."""
    firsts = {problem.why: problem for problem in reversed(problems) if not problem.known}
    for why, count in _unknown(problems).items():
        place = ": ".join(word for word in (firsts[why].scope, firsts[why].node) if word)
        where = f" (at {place})" if count == 1 else f" ({count} nodes, the first at {place})"
        yield f"{why}{where}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _unknown(problems: Sequence[Problem]) -> Counter[str]:
    return Counter(problem.why for problem in problems if not problem.known)

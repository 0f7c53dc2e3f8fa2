"""Result of a verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gatewave.graphs.documents import plain
from gatewave.graphs.evidence import Evidence
from gatewave.graphs.verify.tensor_difference import Difference

GIVEN = "the inputs given"
"""The name of the case of the caller's own inputs."""


@dataclass(frozen=True)
class Ran:
    """Runtime that ran a model.

    Attributes:
        model: ``original`` or ``rewritten``.
        runtime: Runtime in words.
        why: Reason for this runtime, if there was a choice.
    """

    model: str
    runtime: str
    why: str = ""


@dataclass(frozen=True)
class Dropped:
    """Item that was not compared, with the reason."""

    name: str
    why: str


@dataclass(frozen=True)
class Compared:
    """Comparison of a value in both models, over all cases.

    Attributes:
        name: Name of the output, or of the value within the graphs.
        dtype: Element type.
        runtime: Runtime of the rewritten model.
        case: Case with the largest difference.
        difference: The place is that of the largest error; the other numbers are the largest each.
    """

    name: str
    dtype: str
    runtime: str
    case: str
    difference: Difference

    @property
    def holds(self) -> bool:
        return self.difference.used <= 1

    def joined(self, other: Compared) -> Compared:
        """Merge this comparison with ``other``, which is of another case."""
        worse = max(self, other, key=lambda one: one.difference.used)
        both = (self.difference, other.difference)
        merged = replace(
            worse.difference,
            absolute=max(one.absolute for one in both),
            relative=max(one.relative for one in both),
            ulp=max(one.ulp for one in both),
            excused_overflows=sum(one.excused_overflows for one in both),
            wrong=max(one.wrong for one in both),
        )
        return replace(worse, difference=merged)


@dataclass(frozen=True)
class Report:
    """Result of comparing a rewritten model with its original.

    Attributes:
        original: Its path.
        rewritten: Its path.
        seed: Seed of the generated inputs.
        disagreements: Differences in inputs or outputs, in words; if any, no model was run.
        ran: The runtimes that ran each model.
        cases: The names of the compared cases.
        dropped: Cases that the original refuses or that did not fit the budget; and outputs that
            change from run to run.
        outputs: The outputs, compared.
        sites: Values within the graphs, compared: those asked for, and what the changed parts give
            on equal inputs.
        reported: Differences of outputs that do not count: one step in the last place of the inputs
            or of the results of the changed parts moves the original by about as much.
        unseen: Values within the graphs that were asked for and could not be compared.
        failures: Cases that the rewritten model refuses, or dies of.
        notes: Notes on the comparison.
        planned: Number of cases with unlimited time; 0 if there was enough.
        budget: Seconds that all cases together might take.
        unchanged: The rewritten model is the original, so no model was run.
    """

    original: str
    rewritten: str
    seed: int
    disagreements: Sequence[str] = ()
    ran: Sequence[Ran] = ()
    cases: Sequence[str] = ()
    dropped: Sequence[Dropped] = ()
    outputs: Sequence[Compared] = ()
    sites: Sequence[Compared] = ()
    reported: Sequence[Compared] = ()
    unseen: Sequence[Dropped] = ()
    failures: Sequence[Dropped] = ()
    notes: Sequence[str] = ()
    planned: int = 0
    budget: float = 0.0
    unchanged: bool = False

    @property
    def holds(self) -> bool:
        """Return true if values were compared and all differences are within tolerance."""
        return self.unchanged or (
            bool(self.outputs or (self.sites and self.reported))
            and not self.disagreements
            and not self.failures
            and all(one.holds for one in (*self.outputs, *self.sites))
        )

    @property
    def excused_overflows(self) -> int:
        """Number of output elements that were excused because one of the two models overflows."""
        worst: dict[str, int] = {}
        for one in self.outputs:
            worst[one.name] = max(worst.get(one.name, 0), one.difference.excused_overflows)
        return sum(worst.values())

    @property
    def verdict(self) -> str:
        """The verdict in a few words; `summary` gives the reason."""
        if self.holds:
            return "no change" if self.unchanged else "no difference found"
        wrong = (*self.disagreements, *self.failures, *self.outputs)
        return "different" if wrong else "not compared"

    @property
    def evidence(self) -> Evidence | None:
        """The cases that both models ran; ``None`` if no value was compared in any of them."""
        if not (self.outputs or self.sites or self.reported):
            return None
        failed = {failure.name for failure in self.failures}
        return evidence_of([name for name in self.cases if name not in failed], self.seed)

    @property
    def level(self) -> str:
        """The level of evidence, ``unchanged`` where both are one model, or ``none``."""
        if self.unchanged:
            return "unchanged"
        return "none" if self.evidence is None else self.evidence.level

    @property
    def largest(self) -> Compared | None:
        """The output that uses most of its tolerance."""
        return max(self.outputs, key=lambda one: one.difference.used, default=None)

    def summary(self) -> str:
        """Return the reason for the verdict, in a line."""
        if self.unchanged:
            return "both compute the same by construction, so they were not run"
        if self.disagreements:
            return "; ".join(self.disagreements)
        if self.failures:
            return f"it cannot be run on {self.failures[0].name}: {self.failures[0].why}"
        wrong = [one for one in (*self.outputs, *self.sites) if not one.holds]
        if wrong:
            return "; ".join(_sentence(one) for one in wrong[:3])
        if not (self.outputs or self.reported):
            return "no output was compared, as every output changes from run to run"
        outputs = len({one.name for one in (*self.outputs, *self.reported)})
        done = f"{_counted(outputs, 'output')} compared in {self._cases()}"
        if self.sites:
            done += f", and {_counted(len({one.name for one in self.sites}), 'value')} within"
        if self.reported:
            names = len({one.name for one in self.reported})
            done += f"; differences of {_counted(names, 'output')} are rounding and do not count"
        passed = _counted(self.excused_overflows, "number")
        return (
            f"{done}, except {passed} where one of the models overflows"
            if self.excused_overflows
            else done
        )

    def words(self) -> str:
        """The verdict with its level of evidence and its reason, in a line."""
        level = "" if self.unchanged else f", {self.level}"
        return f"{self.verdict}{level if self.holds else ''}: {self.summary()}"

    def _cases(self) -> str:
        """Return the number of compared and planned cases, in words."""
        count = len(self.cases)
        if not self.planned:
            return _counted(count, "case")
        return f"{count} of {self.planned} cases within the budget of {self.budget:g} s"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        found: dict[str, Any] = plain(asdict(self, dict_factory=_document))
        said = {
            "verdict": self.verdict,
            "level": self.level,
            "inputs": 0 if self.evidence is None else self.evidence.inputs,
            "drawn": "no inputs were drawn" if self.evidence is None else self.evidence.drawn,
        }
        return {"holds": self.holds, **said, "summary": self.summary(), **found}


def evidence_of(cases: Sequence[str], seed: int) -> Evidence | None:
    """Return the evidence of a comparison on the cases of these names; ``None`` without one.

    Args:
        cases: Names of the compared cases.
        seed: Seed of the generated ones.
    """
    given = cases.count(GIVEN)
    drawn = f"drawn with seed {seed} from what the model takes"
    if given:
        others = len(cases) - given
        drawn = f"{given} given, {others} {drawn}" if others else "given"
    return Evidence(level="sampled", inputs=len(cases), drawn=drawn) if cases else None


def _document(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dataclass as JSON has it; ``mended`` is the documents' key for excused overflows."""
    return {"mended" if name == "excused_overflows" else name: value for name, value in fields}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _sentence(one: Compared) -> str:
    place = one.difference.place
    if place is None:
        return one.name
    if place.index is None:
        return f"{one.name} is {place.rewritten}, not {place.original} ({one.case})"
    at = f"{one.name}{list(place.index)}"
    return f"{at} is {place.rewritten!r}, not {place.original!r} ({one.case}, {one.runtime})"

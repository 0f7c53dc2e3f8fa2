"""Scheduling of trials."""

import asyncio

import pytest
from waiting import until

from gatewave.service.repository.trial.scheduler import TrialScheduler


class Trials:
    """Trials that record their starts, and end on request."""

    def __init__(self, count, **times):
        self.scheduler = TrialScheduler(count, **times)
        self.begun = []
        self.tasks = {}
        self.gates = {}

    def ask(self, *names, starts=0):
        for name in names:
            self.gates[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(
                self.scheduler.run(name.split("/")[0], self._work(name), starts)
            )

    def _work(self, name):
        async def work(trial):
            self.begun.append(name)
            self.tasks[f"{name}'s"] = trial
            await self.gates[name].wait()
            return name

        return work

    async def until(self, *names):
        await until(lambda: set(names) <= set(self.begun))

    async def end(self, *names):
        for name in names:
            self.gates[name].set()
        assert await asyncio.gather(*(self.tasks[name] for name in names)) == list(names)


def play(scenario):
    async def whole():
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(whole())


def test_the_number_of_concurrent_trials_is_bounded():
    async def scenario():
        trials = Trials(2, slot_seconds=30)
        trials.ask("a", "b", "c")
        await trials.until("a", "b")
        await asyncio.sleep(0)
        assert trials.begun == ["a", "b"]
        await trials.end("a")
        await trials.until("c")
        await trials.end("b", "c")

    play(scenario)


def test_endless_trials_leave_their_slots():
    async def scenario():
        trials = Trials(2, slot_seconds=0.01)
        trials.ask("endless 1", "endless 2", "good")
        await trials.until("good")
        await trials.end("good", "endless 1", "endless 2")

    play(scenario)


def test_the_longest_trial_yields_to_untried_models():
    async def scenario():
        trials = Trials(1, slot_seconds=0.01, min_seconds=0.05)
        trials.ask("endless 1", "endless 2", "good")
        await trials.until("good")
        assert trials.begun[:3] == ["endless 1", "endless 2", "good"]
        await trials.end("good")
        # It comes again, and to its end.
        await trials.end("endless 1", "endless 2")
        assert trials.begun.count("endless 1") == 2

    play(scenario)


def test_a_passed_trial_is_not_ended():
    async def scenario():
        trials = Trials(1, slot_seconds=0.0, min_seconds=0.01)
        trials.ask("a", "b")
        await trials.until("a", "b")
        for name in ("a", "b"):
            trials.tasks[f"{name}'s"].is_settled = True
        trials.ask("c")
        await asyncio.sleep(0.05)
        assert trials.begun == ["a", "b"]
        await trials.end("a", "b", "c")

    play(scenario)


def test_a_trial_runs_longer_with_each_start():
    """A trial is not ended for another with as many starts."""

    async def scenario():
        trials = Trials(1, slot_seconds=0.0, min_seconds=0.01)
        trials.ask("a", "b", "c", "d")
        await trials.until("a", "b", "c", "d")
        await trials.end("a", "b", "c", "d")
        assert all(trials.begun.count(name) <= 3 for name in "abcd")

    play(scenario)


def test_untried_models_come_first_and_models_take_turns():
    async def scenario():
        trials = Trials(1, slot_seconds=30)
        trials.ask("m/1")
        await trials.until("m/1")
        trials.ask("again", starts=1)
        trials.ask("m/2", "other")
        for name in ("m/1", "m/2", "other", "again"):
            trials.gates[name].set()
        await asyncio.gather(*(trials.tasks[name] for name in trials.gates))
        assert trials.begun == ["m/1", "m/2", "other", "again"]

    play(scenario)


def test_models_take_turns_with_their_versions():
    async def scenario():
        trials = Trials(2, slot_seconds=30)
        trials.ask("m/1", "x")
        await trials.until("m/1", "x")
        trials.ask("m/2", "other")
        await trials.end("x")
        await trials.until("other")
        assert trials.begun == ["m/1", "x", "other"]
        await trials.end("m/1", "other", "m/2")

    play(scenario)


def test_a_cancelled_trial_passes_on_its_turn():
    async def scenario():
        trials = Trials(1, slot_seconds=30)
        trials.ask("a", "b", "c")
        await trials.until("a")
        trials.tasks["b"].cancel()
        trials.tasks["a"].cancel()
        for name in "ab":
            with pytest.raises(asyncio.CancelledError):
                await trials.tasks[name]
        await trials.end("c")
        assert trials.begun == ["a", "c"]

    play(scenario)

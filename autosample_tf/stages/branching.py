"""The objective `branches`: which sampler helps most from here on is tried, not estimated.

During a warm-up under the equal mixture the signal of `validation` proposes the better half of
the candidates. Each of them then trains the model alone for a few epochs, all from the same
state with the same random numbers, and so does the mixture. The best branch's state is the one
that the next round's branches leave from; the better half of the candidates takes part in it,
for twice as many epochs. That is successive halving (Karnin, Koren & Somekh, ICML 2013;
Jamieson & Talwalkar, AISTATS 2016), but for the common state, which population based training
has (Jaderberg et al., arXiv 1711.09846). So the branches that won form a schedule: a sampler may
be the one to begin with and another the one to go on with.

What keeps a sampler whose time comes later is the mixture, in which it keeps its share: when
that is the best branch, all candidates come back.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.callbacks import KeepEpoch
from autosample_tf.checkpoints import (
    read_back_up,
    read_optimizer,
    read_parameters,
    write_parameters,
)
from autosample_tf.errors import TrainingDivergedError
from autosample_tf.evaluation import Evaluator
from autosample_tf.runs import History, folder_name, leave_history
from autosample_tf.samplers import Feedback, build_samplers
from autosample_tf.stages.fitting import (
    Job,
    Stretch,
    build,
    chosen_on,
    compiled_autosample,
    fit,
    make_optimizer,
    stage_seed,
)
from autosample_tf.stages.results import SearchResult, took

log = logging.getLogger(__name__)
Found = dict[str, float]
_LEAST_PROPOSED = 4  # candidates are few enough then to try them all
MIXTURE = "mixture"  # the branch of all candidates, equally weighted


class Branches(Protocol):
    """What `decide` decides by.

    Attributes:
      candidates: all of them.
    """

    candidates: list[str]

    def warm_up(self) -> tuple[float, list[str]]:
        """Trains under the mixture; the metric that it comes to, and the candidates ranked by
        the evidence of that."""

    def round(self, number: int, candidates: Sequence[str], first: int, last: int) -> Found:
        """Trains each candidate's branch, and the mixture's, from epoch `first` to `last`;
        the metric that each comes to, by name: without those that diverge, unless all do."""

    def hand_on(self, number: int, best: str) -> None:
        """Makes the state of a round's best branch the one that the next round leaves from."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What the branches have shown.

    Attributes:
      survivors: whom to go on with, equally weighted.
      dropped: as `SearchResult` has it.
      rounds: likewise.
      epoch: of the state that was best.
      handed_on: the round that it is of; 0: the warm-up.
    """

    survivors: list[str]
    dropped: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    epoch: int
    handed_on: int


def decide(branches: Branches, *, warmup: int, last_epoch: int, length: int) -> Decision:
    """Goes through rounds until one candidate is left, no branch helps, or epochs are out.

    Args:
      branches: what trains and measures them.
      warmup: epochs before the first round.
      last_epoch: the most that the state handed on may have been trained for.
      length: epochs of the first round; every other has twice as many as the one before.
    """
    everybody = branches.candidates
    best, proposed = branches.warm_up()
    candidates = survivors = better_half(proposed, everybody, at_least=_LEAST_PROPOSED)
    rounds: list[dict[str, Any]] = []
    dropped = _dropped({}, everybody, candidates, warmup)
    epoch, handed_on = warmup, 0
    while epoch < last_epoch and len(candidates) > 1:
        number, last = len(rounds) + 1, min(epoch + length * 2 ** len(rounds), last_epoch)
        found = branches.round(number, candidates, epoch, last)
        ranked = sorted(found, key=found.__getitem__, reverse=True)
        rounds.append({"epoch": last, "valid": found, "best": ranked[0]})
        survivors = everybody if ranked[0] == MIXTURE else ranked[:1]
        if not found[ranked[0]] > best:
            break
        epoch, best, handed_on = last, found[ranked[0]], number
        branches.hand_on(number, ranked[0])
        kept = better_half(ranked, everybody)
        dropped = _dropped(dropped, candidates, kept, last)
        candidates = kept
    in_order = sorted(dropped.values(), key=lambda each: each["epoch"])
    return Decision(list(survivors), in_order, rounds, epoch, handed_on)


def branched_search(job: Job) -> SearchResult:
    """The search of a run with the objective `branches`; goes on where it stopped."""
    tree, settings = _Tree(job), job.settings
    found = decide(
        tree,
        warmup=settings.drop_warmup,
        last_epoch=settings.search_epochs,
        length=settings.branch_epochs,
    )
    tree.keep(found.handed_on)
    return SearchResult(
        epochs=len(tree.rows),
        best_epoch=found.epoch,
        weights={spec: 1 / len(found.survivors) for spec in found.survivors},
        dropped=found.dropped,
        rewind_epoch=settings.rewind_epoch,
        rounds=found.rounds,
        **took(tree.rows),
    )


def better_half(ranked: Sequence[str], everybody: Sequence[str], at_least: int = 1) -> list[str]:
    """Who takes part in the next round.

    Args:
      ranked: the names of candidates, the best first, `MIXTURE` among them or not.
      everybody: all candidates, in their order.
      at_least: so many, if there are.

    Returns:
      The better half of the candidates that were ranked, rounded up, in their order; everybody
      where the mixture was best.
    """
    if ranked[0] == MIXTURE:
        return list(everybody)
    alone = [name for name in ranked if name != MIXTURE]
    kept = alone[: max(math.ceil(len(alone) / 2), at_least)]
    return [spec for spec in everybody if spec in kept]


def _dropped(
    before: Mapping[str, Any], candidates: Sequence[str], kept: Sequence[str], epoch: int
) -> dict[str, Any]:
    """Who is out after an epoch, by name what `SearchResult.dropped` tells of it."""
    now = {
        spec: {"sampler": spec, "epoch": epoch, "weight": 1 / len(candidates)}
        for spec in candidates
    }
    return {spec: each for spec, each in {**now, **before}.items() if spec not in kept}


class _Tree:
    """One model and its optimizer, trained along one branch after another.

    Between two branches they are set to the state that both leave from; the samplers begin
    each branch anew. What a branch has come to lies in `branches/<round>-<name>`.
    """

    def __init__(self, job: Job):
        settings, data = job.settings, job.data
        self._job, self._folder = job, job.run.search
        self.model = build(settings, data.train)
        self._optimizer = make_optimizer(settings)
        self._optimizer.build(self.model.trainable_variables)
        self._held_out = chosen_on(data, settings)
        self._evaluator = Evaluator(self.model, self._held_out, data.train, settings.top_k)
        self.candidates = [sampler.spec for sampler in build_samplers(settings.samplers)]
        self._branches: dict[str, tuple[AutoSample, list[np.ndarray]]] = {}
        self.rows: list[dict[str, Any]] = []  # of every epoch that was trained

    def warm_up(self) -> tuple[float, list[str]]:
        settings = self._job.settings
        last, seed = settings.drop_warmup, stage_seed(settings, "search")
        rewind = settings.rewind_epoch
        autosample = self._begun(MIXTURE)
        rows = fit(
            self._job,
            autosample,
            self._job.data.train,
            Stretch("search", self._folder, seed, last, evaluate_from=last),
            evaluator=self._evaluator,
            choices=[KeepEpoch(rewind, self._folder / f"epoch-{rewind}")],
        )
        self.rows += rows
        write_parameters(self.model, self._state(0), self._optimizer)
        evidence = dict(zip(self.candidates, autosample.logits.numpy().tolist(), strict=True))
        ranked = sorted(self.candidates, key=evidence.__getitem__, reverse=True)
        return rows[-1][self._job.monitor], ranked

    def round(self, number: int, candidates: Sequence[str], first: int, last: int) -> Found:
        found, diverged = {}, None
        for name in (*candidates, MIXTURE):
            try:
                rows = self._branch(number, name, first, last)
            except TrainingDivergedError as error:
                log.warning("out of round %d, the branch of %s: %s", number, name, error)
                diverged, rows = error, self._rows_of(number, name, last)
            else:
                if _came_to(last, rows):
                    found[name] = rows[-1][self._job.monitor]
            self.rows += rows
        if diverged and not found:
            raise diverged
        return found

    def hand_on(self, number: int, best: str) -> None:
        """Keeps that state, and of the round no other; adds its epochs to the history."""
        folder = self._branch_folder(number, best)
        latest = tf.train.latest_checkpoint(str(folder))
        if latest and not self._is_there(self._state(number)):
            read_back_up(self.model, self._optimizer, Path(latest))
            write_parameters(self.model, self._state(number), self._optimizer)
        own = History(folder / "history.csv")
        own.load(self._job.settings.search_epochs)
        history = History(self._folder / "history.csv")
        history.load(own.rows[0]["epoch"] - 1)
        for row in own.rows:
            history.append(row)
        for branch in self._folder.glob(f"branches/{number}-*"):
            leave_history(branch)

    def keep(self, number: int) -> None:
        """Writes the state that a round left, 0 being the warm-up, as retraining reads it."""
        self._go_back_to(number)
        write_parameters(self.model, self._folder / "parameters", self._optimizer)

    def _branch(self, number: int, name: str, first: int, last: int) -> list[dict[str, Any]]:
        folder = self._branch_folder(number, name)
        if self._is_there(self._state(number)):  # else it is not sure that the branch is whole
            return self._rows_of(number, name, last)
        autosample = self._begun(name)
        self._go_back_to(number - 1)
        seed = stage_seed(self._job.settings, "branch", number)
        return fit(
            self._job,
            autosample,
            self._job.data.train,
            Stretch(
                f"branch {number} {name}",
                folder,
                seed,
                last,
                first,
                evaluate_from=last,
                timed=False,
            ),
            evaluator=self._evaluator,
        )

    def _rows_of(self, number: int, name: str, last: int) -> list[dict[str, Any]]:
        history = History(self._branch_folder(number, name) / "history.csv")
        history.load(last)
        return history.rows

    def _begun(self, name: str) -> AutoSample:
        """A branch's AutoSample, over this model and optimizer, its samplers as they begin."""
        if name not in self._branches:
            settings = self._job.settings
            is_mixture = name == MIXTURE
            made = compiled_autosample(
                settings,
                self.model,
                Feedback(self._job.data.train, self._job.data.given),
                samplers=self.candidates if is_mixture else [name],
                objective="validation" if is_mixture else "uniform",
                epochs=settings.search_epochs,
                warmup_epochs=settings.search_epochs + 1,  # the weights stay equal to the last
                seed=stage_seed(settings, "search"),
                held_out=self._held_out,
                optimizer=self._optimizer,
            )
            self._branches[name] = made, [v.numpy() for v in _own_variables(made)]
        autosample, values = self._branches[name]
        for variable, value in zip(_own_variables(autosample), values, strict=True):
            variable.assign(value)
        return autosample

    def _go_back_to(self, number: int) -> None:
        """Sets the model and its optimizer to what a round left."""
        read_parameters(self.model, self._state(number))
        read_optimizer(self._optimizer, self._state(number))

    def _state(self, number: int) -> Path:
        return self._folder / f"round-{number}"

    @staticmethod
    def _is_there(state: Path) -> bool:
        return state.with_name(state.name + ".index").is_file()

    def _branch_folder(self, number: int, name: str) -> Path:
        return self._folder / "branches" / f"{number}-{folder_name(name)}"


def _came_to(last: int, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a branch did: one that diverged has fewer rows."""
    return bool(rows) and rows[-1]["epoch"] == last


def _own_variables(autosample: AutoSample) -> list[tf.Variable]:
    """The samplers', and those of the optimizer of theirs."""
    return [*autosample.of_samplers(), *autosample.sampler_optimizer.variables]

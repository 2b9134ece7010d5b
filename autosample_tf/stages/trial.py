"""Which mixture retraining is under: the searched one has to earn its place.

Where all samplers are about as good, what they have in common is better than a choice among
them; where one is best by far, it is better alone; and how far to lean, a signal says worse than
towards whom. Nor does it say for good: evidence for a sampler fades once the model trains under
it. So the equal mixture of all candidates, and each sampler that ever led the mixture, alone, are
tried beside the searched mixture, for some epochs from the same parameters, and retraining is under
what validation prefers. Epochs, not one: on gowalla the equal mixture leads for two of them
and falls behind in the third (docs/defaults.md).
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosample_tf.callbacks import KeepBest
from autosample_tf.errors import TrainingDivergedError
from autosample_tf.evaluation import Evaluator
from autosample_tf.runs import History, Run, folder_name, leave_history
from autosample_tf.samplers import build_samplers
from autosample_tf.settings import TRYING_OBJECTIVES, Settings
from autosample_tf.stages.fitting import Stretch, chosen_on, fit, stage_seed
from autosample_tf.stages.results import SearchResult, took
from autosample_tf.stages.start import Start

log = logging.getLogger(__name__)
SEARCHED, EQUAL = "searched", "equal"  # mixtures that are tried; others are of one sampler
_VERDICT = "retrain/trial.json"


def mixtures_to_try(settings: Settings, result: SearchResult) -> dict[str, dict[str, float]]:
    """The weights that retraining may go on with, by name: the searched ones, and where there is
    a trial and they are others, equal ones of all candidates, and of each sampler that led during
    the search, by its spec, its own alone.

    `uniform` has searched nothing, and those of `TRYING_OBJECTIVES` have tried them already.
    """
    searched = result.weights
    if settings.objective in (*TRYING_OBJECTIVES, "uniform") or not _trial_epochs(settings):
        return {SEARCHED: searched}
    specs = [sampler.spec for sampler in build_samplers(settings.samplers)]
    alone = {spec: {spec: 1.0} for spec in result.leaders}
    others = {EQUAL: dict.fromkeys(specs, 1 / len(specs)), **alone}
    return {SEARCHED: searched, **{k: o for k, o in others.items() if not _alike(o, searched)}}


def _alike(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two mixtures are the same but for rounding."""
    return one.keys() == other.keys() and all(
        math.isclose(weight, other[spec], rel_tol=1e-5) for spec, weight in one.items()
    )


def in_words(best: str) -> str:
    """What a trial's best mixture is called in a sentence."""
    return f"the {best} mixture" if best in (SEARCHED, EQUAL) else f"{best} alone"


def _trial_epochs(settings: Settings) -> int:
    # None is stored by no run, but by those of before there were trials.
    return min(settings.trial_epochs or 0, settings.retrain_epochs)


class Contender:
    """One mixture in retraining, with a model of its own.

    Args:
      start: where it starts.
      weights: of its samplers, by spec.
      begins_at: the held-out metric of the start's parameters, which all contenders share; None:
        not evaluated yet.
      shrinks: whether it shrinks them before its first epoch, and begins with an optimizer anew.

    Attributes:
      rows: of the history, once fitted.
    """

    def __init__(
        self,
        start: Start,
        weights: Mapping[str, float],
        begins_at: float | None = None,
        *,
        shrinks: bool = False,
    ):
        job = start.job
        self.weights, self._start, self._shrinks = dict(weights), start, shrinks
        train, held_out = job.data.train, chosen_on(job.data, job.settings)
        self.model, optimizer = start.initialized(train, goes_on=not shrinks)
        self.evaluator = Evaluator(self.model, held_out, train, job.settings.top_k)
        self.begins_at = self.evaluator.mean()[job.monitor] if begins_at is None else begins_at
        self._autosample = start.compiled_autosample(
            weights, "retrain", self.model, optimizer, train, held_out
        )
        self.rows: list[dict[str, Any]] = []

    def fit(self, name: str, folder: Path, last_epoch: int, *, is_trial: bool = False) -> KeepBest:
        """Trains up to an epoch from wherever the folder stands; what was kept as the best.

        In a trial all epochs are at one rate, and no sampler is timed.
        """
        job, settings = self._start.job, self._start.job.settings
        best = KeepBest(
            job.monitor,
            settings.patience,
            folder / "best",
            last_epoch,
            decays=0 if is_trial else settings.rate_decays,
        )
        best.start_from(self.begins_at, self.model, self._autosample.optimizer)
        if self._shrinks:
            self._start.shrink(self.model)  # of a run that goes on `fit` restores what was trained
        self.rows = fit(
            job,
            self._autosample,
            job.data.train,
            Stretch(name, folder, stage_seed(settings, "retrain"), last_epoch, timed=not is_trial),
            evaluator=self.evaluator,
            choices=[best],
        )
        return best


def after_trial(start: Start) -> tuple[Contender, dict[str, Any] | None]:
    """What retraining begins with; and what `metrics.json` says of the trial, None where there was
    none."""
    run = start.job.run
    mixtures = mixtures_to_try(start.job.settings, start.result)
    best, begins_at, verdict = SEARCHED, None, None
    if len(mixtures) > 1:
        if not (run.path / _VERDICT).is_file():
            _try(start, mixtures)
        verdict = run.read_json(_VERDICT)
        del verdict["schema_version"]
        best, begins_at = verdict["best"], verdict["begins_at"]
        for folder in (run.retrain / "trial").iterdir():
            leave_history(folder)
    return Contender(start, mixtures[best], begins_at, shrinks=start.shrinks), verdict


def _try(start: Start, mixtures: Mapping[str, Mapping[str, float]]) -> None:
    """Tries the mixtures one after another, so that one is in memory, and writes the verdict.

    The best has the best epoch of its own. Where all begin says nothing of any, though it may
    be better than all of them: the search chose it as its best. One under which training diverges
    is out.
    """
    job, epochs = start.job, _trial_epochs(start.job.settings)
    rows: dict[str, list[dict[str, Any]]] = {}
    diverged: dict[str, str] = {}
    begins_at: float | None = None
    for name, weights in mixtures.items():
        contender = Contender(start, weights, begins_at)
        begins_at = contender.begins_at
        try:
            contender.fit(f"trial {name}", _folder(job.run, name), epochs, is_trial=True)
        except TrainingDivergedError as error:
            diverged[name] = str(error)
            if diverged.keys() == mixtures.keys():
                raise
            log.warning("out of the trial, %s: %s", in_words(name), error)
        history = History(_folder(job.run, name) / "history.csv")
        history.load(epochs)  # of one that diverged the epochs before
        rows[name] = history.rows
        del contender
        gc.collect()  # Keras keeps its model in cycles
    ended = [name for name in mixtures if name not in diverged]
    valid = {name: max(row[job.monitor] for row in rows[name]) for name in ended}
    every = [row for of_one in rows.values() for row in of_one]
    told = {"best": max(valid, key=valid.__getitem__), "begins_at": begins_at, "valid": valid,
            "diverged": diverged, "epochs": len(every), **took(every)}  # fmt: skip
    job.run.write_json(_VERDICT, told)


def _folder(run: Run, name: str) -> Path:
    return run.retrain / "trial" / folder_name(name)

"""The second stage of a run: retrain with what its search found, and test once.

Everything is chosen on validation. The test pairs are read by one evaluator, `_on_test`, after
the last choice; unless `select_on_test` asks for the opposite, as some published tables did it:
`chosen_on` says which pairs choose.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.callbacks import rates
from autosample_tf.checkpoints import read_parameters, write_parameters
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset
from autosample_tf.models import Recommender
from autosample_tf.runs import Run
from autosample_tf.settings import Settings
from autosample_tf.stages.fitting import Job, Stretch, fit, learned_from, seen_in_test, stage_seed
from autosample_tf.stages.results import SearchResult, took
from autosample_tf.stages.start import Start
from autosample_tf.stages.trial import after_trial

log = logging.getLogger(__name__)


def retrain_stage(job: Job, origin: Run, result: SearchResult) -> dict[str, Any]:
    """Retrains with what a search found, tests once, and writes the run's metrics.

    Args:
      job: the run that retrains.
      origin: the run that searched.
      result: what it found.
    """
    gc.collect()  # a search in this process has left its mixture, which Keras keeps in cycles
    run, data, settings = job.run, job.data, job.settings
    start = Start(job, origin, result)
    chosen, trial = after_trial(start)
    best = chosen.fit("retrain", run.retrain, settings.retrain_epochs)
    model, weights = chosen.model, chosen.weights
    read_parameters(model, run.retrain / "best")
    valid = _measured(run, "valid", chosen.evaluator)
    refits = settings.refit and best.best_epoch > 0
    if refits:
        model = _refit(start, weights, best.epochs_by_rate)
    elif best.best_epoch == 0 and settings.retrain_epochs:
        _warn_of_its_start(settings)
    settings = dataclasses.replace(settings, refit=refits)
    write_parameters(model, run.retrain / "parameters")
    run.write_json(
        "metrics.json",
        {
            "dataset": data.name,
            "model": settings.model,
            "selected_on": "test" if settings.select_on_test else "valid",
            "valid": valid,
            "test": _measured(run, "test", _on_test(model, data, settings)),
            "test_users": int(np.sum(data.test.degrees > 0)),
            "test_users_without_train_pairs": int(
                np.sum((data.test.degrees > 0) & (learned_from(data, settings).degrees == 0))
            ),
            "search": {**dataclasses.asdict(result), "survivors": result.survivors},
            "retrain": {
                "init": settings.init,
                "weights": weights,
                "trial": trial,
                "epochs": len(chosen.rows),
                "best_epoch": best.best_epoch,
                "epochs_by_rate": best.epochs_by_rate,
                "refit": refits,
                **took(chosen.rows),
            },
        },
    )
    return run.metrics()


def _warn_of_its_start(settings: Settings) -> None:
    """Where no epoch was better than what retraining started from."""
    start = "new parameters, untrained" if settings.init == "scratch" else "the search's"
    log.warning(
        "no epoch of retraining was better than the parameters that it started from, which are the "
        "result: %s%s",
        start,
        "; there is none to refit" if settings.refit else "",
    )


def _refit(
    start: Start, weights: Mapping[str, float], epochs_by_rate: Sequence[int]
) -> Recommender:
    """Trains on train and validation together, for as many epochs as led to the best one, at
    their learning rates; from the start as it was where retraining went back to it.

    Samplers that follow the training's progress begin it anew, so that after going back to an epoch
    they are earlier in it than they were.
    """
    job, pairs = start.job, start.job.data.seen
    model, optimizer = start.initialized(pairs, goes_on=not start.shrinks)
    if start.shrinks and epochs_by_rate[0]:
        start.shrink(model)
    rate = rates(job.settings.learning_rate, epochs_by_rate)
    fit(
        job,
        start.compiled_autosample(weights, "refit", model, optimizer, pairs),
        pairs,
        Stretch("refit", job.run.retrain / "refit", stage_seed(job.settings, "refit"), len(rate)),
        evaluator=None,
        choices=[tf.keras.callbacks.LearningRateScheduler(lambda epoch: rate[epoch])],
    )
    return model


def _on_test(model: Recommender, data: Dataset, settings: Settings) -> Evaluator:
    """What reads the test pairs. Nothing may be chosen after that."""
    seen, learned = seen_in_test(data, settings), learned_from(data, settings)
    return Evaluator(model, data.test, seen, settings.top_k, learned)


def _measured(run: Run, split: str, evaluator: Evaluator) -> dict[str, float]:
    """The metrics' means over users; each user's own are written into the run folder."""
    per_user = evaluator.per_user()
    run.write_per_user(split, evaluator.users, per_user)
    return {name: float(values.mean()) for name, values in per_user.items()}

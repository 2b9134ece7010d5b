"""The two stages of a run: search under the mixture, retrain with what it chose.

Each goes on from wherever its checkpoint in the run folder stands. Everything is chosen on
validation: the weights, what is dropped, the epoch to stop at. The test pairs are read by
one evaluator, `_on_test`, after the last choice; unless `select_on_test` asks for the
opposite, as some published tables did it: `chosen_on` says which pairs choose.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.branching import branched_search
from autosample_tf.callbacks import (
    DropSamplers,
    KeepBest,
    KeepEpoch,
    read_optimizer,
    read_parameters,
    write_parameters,
)
from autosample_tf.evaluation import Evaluator
from autosample_tf.fitting import (
    Job,
    Stretch,
    build,
    chosen_on,
    fit,
    learned_from,
    make_optimizer,
    mixture,
    stage_seed,
)
from autosample_tf.interactions import Dataset, Interactions, Pairs
from autosample_tf.models import Recommender
from autosample_tf.results import SearchResult, read_search_result, took
from autosample_tf.runs import Run
from autosample_tf.samplers import Feedback
from autosample_tf.settings import Settings


def search_stage(job: Job) -> SearchResult:
    """Searches, or reads what the run's search has found already."""
    if not (job.run.search / "result.json").is_file():
        found = branched_search(job) if job.settings.objective == "branches" else _search(job)
        job.run.write_json("search/result.json", dataclasses.asdict(found))
    return read_search_result(job.run)


def _search(job: Job) -> SearchResult:
    """One model under all candidates, whose weights learn while it trains."""
    run, data, settings = job.run, job.data, job.settings
    model, held_out = build(settings, data.train), chosen_on(data, settings)
    autosample = mixture(
        settings,
        model,
        Feedback(data.train, data.given),
        samplers=settings.samplers,
        objective=settings.objective,
        epochs=settings.search_epochs,
        seed=stage_seed(settings, "search"),
        held_out=held_out,
    )
    drop = DropSamplers(settings.drop_threshold, settings.drop_warmup)
    rewind = KeepEpoch(settings.rewind_epoch, run.search / f"epoch-{settings.rewind_epoch}")
    best = KeepBest(job.monitor, settings.patience, run.search / "parameters", with_optimizer=True)
    stretch = Stretch("search", run.search, stage_seed(settings, "search"), settings.search_epochs)
    rows = fit(
        job,
        autosample,
        data.train,
        stretch,
        evaluator=Evaluator(model, held_out, data.train, settings.top_k),
        choices=[drop, rewind, best],
    )
    return SearchResult(
        epochs=len(rows),
        best_epoch=best.best_epoch,
        weights=autosample.weights_by_spec(),
        dropped=_dropped(rows),
        rewind_epoch=settings.rewind_epoch,
        **took(rows),
    )


def retrain_stage(job: Job, origin: Run, result: SearchResult) -> dict[str, Any]:
    """Retrains with what a search found, tests once, and writes the run's metrics.

    Args:
      job: the run that retrains.
      origin: the run that searched.
      result: what it found.
    """
    gc.collect()  # a search in this process has left its mixture, which Keras keeps in cycles
    run, data, settings = job.run, job.data, job.settings
    model, optimizer = _initialized(settings, data.train, origin, result)
    held_out = chosen_on(data, settings)
    evaluator = Evaluator(model, held_out, data.train, settings.top_k)
    best = KeepBest(job.monitor, settings.patience, run.retrain / "best")
    best.start_from(evaluator.mean()[job.monitor], model)
    feedback = Feedback(data.train, data.given)
    rows = fit(
        job,
        _survivors(settings, model, optimizer, feedback, result, "retrain", held_out),
        data.train,
        Stretch("retrain", run.retrain, stage_seed(settings, "retrain"), settings.retrain_epochs),
        evaluator=evaluator,
        choices=[best],
    )
    read_parameters(model, run.retrain / "best")
    valid = _measured(run, "valid", evaluator)
    if settings.refit:
        model = _refit(job, origin, result, best.best_epoch)
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
                np.sum((data.test.degrees > 0) & (data.train.degrees == 0))
            ),
            "search": {**dataclasses.asdict(result), "survivors": result.survivors},
            "retrain": {
                "init": settings.init,
                "epochs": len(rows),
                "best_epoch": best.best_epoch,
                "refit": settings.refit,
                **took(rows),
            },
        },
    )
    return run.metrics()


def _refit(job: Job, origin: Run, result: SearchResult, epochs: int) -> Recommender:
    """Trains on train and validation together for as many epochs as were best."""
    data, settings = job.data, job.settings
    model, optimizer = _initialized(settings, data.seen, origin, result)
    if epochs:
        feedback = Feedback(data.seen, data.given)
        autosample = _survivors(settings, model, optimizer, feedback, result, "refit")
        folder = job.run.retrain / "refit"
        stretch = Stretch("refit", folder, stage_seed(settings, "refit"), epochs)
        fit(job, autosample, data.seen, stretch, evaluator=None)
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


def seen_in_test(data: Dataset, settings: Settings) -> Interactions:
    """What rankings on test leave out: what could be known before, and is not looked for."""
    return data.train if settings.select_on_test else data.seen


def seen_by_users(data: Dataset, settings: Settings) -> Interactions:
    """What rankings for users leave out: train and validation, that is, what the run knows.

    Where the test pairs are the validation they are no stand-in for the future any more,
    and users have them already. A validation split of the data's own, not used then, is
    left out as well.
    """
    return data.seen.union(data.test) if settings.select_on_test else data.seen


def _initialized(
    settings: Settings, pairs: Pairs, origin: Run, result: SearchResult
) -> tuple[Recommender, tf.keras.optimizers.Optimizer]:
    """The model and its optimizer where retraining starts.

    The optimizer goes on as well, if it is of the same kind: an Adam that begins anew moves
    every entry by nearly its whole rate at first, and what the search had learned suffers.
    """
    model, optimizer = build(settings, pairs), make_optimizer(settings)
    if settings.init == "scratch":
        return model, optimizer
    name = "parameters" if settings.init == "search" else f"epoch-{result.rewind_epoch}"
    read_parameters(model, origin.search / name)
    if settings.optimizer == origin.config()["settings"]["optimizer"]:
        optimizer.build(model.trainable_variables)
        read_optimizer(optimizer, origin.search / name)
    return model, optimizer


def _survivors(
    settings: Settings,
    model: Recommender,
    optimizer: tf.keras.optimizers.Optimizer,
    feedback: Feedback,
    result: SearchResult,
    stage: str,
    held_out: Pairs | None = None,
) -> AutoSample:
    """The survivors under the weights that the search ended with; of `held_out` they learn
    nothing, it tells how many negatives are false."""
    return mixture(
        settings,
        model,
        feedback,
        samplers=result.survivors,
        objective="uniform",
        weights=result.weights,
        epochs=settings.retrain_epochs,
        seed=stage_seed(settings, stage),
        held_out=held_out,
        optimizer=optimizer,
    )


def _dropped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The drops that the history's `dropped` column tells, in order."""
    return [
        {"sampler": spec, "epoch": row["epoch"], "weight": float(weight)}
        for row in rows
        for spec, _, weight in (
            entry.rpartition("=") for entry in (row.get("dropped") or "").split(";") if entry
        )
    ]

"""The two stages of a run: search under the mixture, retrain with what it chose.

Each goes on from wherever its checkpoint in the run folder stands. Everything is chosen on
validation: the weights, what is dropped, the epoch to stop at. The test pairs are read by
one function, `_measure`, after the last choice; unless `select_on_test` asks for the
opposite, as some published tables did it: `chosen_on` says which pairs choose.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.callbacks import (
    BackUp,
    DropSamplers,
    EvaluateEpoch,
    KeepBest,
    KeepEpoch,
    Record,
    RefreshSamplers,
    ReportHealth,
    StopOnDivergence,
    TimeSamplers,
    read_parameters,
    write_parameters,
)
from autosample_tf.errors import expected
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.models import Recommender, build_model
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.refusal import named_refusals
from autosample_tf.runs import History, Run
from autosample_tf.samplers import Feedback
from autosample_tf.settings import Settings

_HEALTH_EVERY = 50  # steps from one look at the negatives to the next; at least one an epoch
_STEPS_PER_CALL = 64  # steps of the graph's own loop: Python is asked once for all of them

# Called when a stage begins, with its name and most epochs; its callback reports progress.
Reporter = Callable[[str, int], tf.keras.callbacks.Callback]


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What the search hands to the retraining, as `search/result.json` has it.

    Attributes:
      epochs: how many it took.
      best_epoch: the one with the best validation NDCG, whose parameters are handed on.
      seconds: of training, evaluation not counted.
      weights: the survivors', by spec, summing to 1.
      dropped: for each sampler dropped, its `sampler`, `epoch` and last `weight`.
      rewind_epoch: whose parameters were kept besides the last.
    """

    epochs: int
    best_epoch: int
    seconds: float
    weights: dict[str, float]
    dropped: list[dict[str, Any]]
    rewind_epoch: int

    @property
    def survivors(self) -> list[str]:
        return list(self.weights)


def read_search_result(run: Run) -> SearchResult:
    """What the run's search found.

    Raises:
      InputError: if it has none, or its search is not finished.
    """
    if not (run.search / "result.json").is_file():
        raise expected(
            f"a finished search in {run.path}",
            received="none",
            remedy="Finish it with `autosample-tf search --resume --run-dir …`, or name the run "
            "that this one was retrained from (`searched` in its config.json).",
        )
    values = run.read_json("search/result.json")
    values.pop("schema_version")
    return SearchResult(**values)


def search_stage(
    run: Run, data: Dataset, settings: Settings, reporter: Reporter | None
) -> SearchResult:
    if (run.search / "result.json").is_file():
        return read_search_result(run)
    model = build(settings, data.train)
    autosample = _mixture(
        model,
        Feedback(data.train, data.given),
        settings,
        stage="search",
        epochs=settings.search_epochs,
        samplers=settings.samplers,
        objective=settings.objective,
        held_out=chosen_on(data, settings),
    )
    drop = DropSamplers(settings.drop_threshold, settings.drop_warmup)
    rewind = KeepEpoch(settings.rewind_epoch, run.search / f"epoch-{settings.rewind_epoch}")
    best = KeepBest(_monitor(settings), settings.patience, run.search / "parameters")
    rows = _fit(
        autosample,
        data.train,
        settings,
        stage="search",
        folder=run.search,
        epochs=settings.search_epochs,
        evaluator=Evaluator(model, chosen_on(data, settings), data.train, settings.top_k),
        run=run,
        choices=[drop, rewind, best],
        reporter=reporter,
    )
    result = SearchResult(
        epochs=len(rows),
        best_epoch=best.best_epoch,
        seconds=sum(row["seconds"] for row in rows),
        weights=autosample.weights_by_spec(),
        dropped=_dropped(rows),
        rewind_epoch=settings.rewind_epoch,
    )
    run.write_json("search/result.json", dataclasses.asdict(result))
    return result


def retrain_stage(
    run: Run,
    origin: Run,
    data: Dataset,
    settings: Settings,
    result: SearchResult,
    reporter: Reporter | None,
) -> dict[str, Any]:
    gc.collect()  # a search in this process has left its mixture, which Keras keeps in cycles
    model = _initialized(settings, data.train, origin, result)
    evaluator = Evaluator(model, chosen_on(data, settings), data.train, settings.top_k)
    initial = evaluator.mean()
    best = KeepBest(_monitor(settings), settings.patience, run.retrain / "best")
    best.start_from(initial[_monitor(settings)], model)
    feedback = Feedback(data.train, data.given)
    rows = _fit(
        _fixed_mixture(model, feedback, settings, result, "retrain", chosen_on(data, settings)),
        data.train,
        settings,
        stage="retrain",
        folder=run.retrain,
        epochs=settings.retrain_epochs,
        evaluator=evaluator,
        run=run,
        choices=[best],
        reporter=reporter,
    )
    read_parameters(model, run.retrain / "best")
    if settings.refit:
        model = _refit(run, origin, data, settings, result, best.best_epoch, reporter)
    write_parameters(model, run.retrain / "parameters")
    chosen = rows[best.best_epoch - 1] if best.best_epoch else initial
    metrics = {
        "dataset": data.name,
        "model": settings.model,
        "selected_on": "test" if settings.select_on_test else "valid",
        "valid": {name: chosen[name] for name in initial},
        "test": _measure(model, data, settings),
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
            "seconds": sum(row["seconds"] for row in rows),
        },
    }
    run.write_json("metrics.json", metrics)
    return run.metrics()


def _refit(
    run: Run,
    origin: Run,
    data: Dataset,
    settings: Settings,
    result: SearchResult,
    epochs: int,
    reporter: Reporter | None,
) -> Recommender:
    """Trains on train and validation together for as many epochs as were best."""
    model = _initialized(settings, data.seen, origin, result)
    if epochs:
        _fit(
            _fixed_mixture(model, Feedback(data.seen, data.given), settings, result, "refit"),
            data.seen,
            settings,
            stage="refit",
            folder=run.retrain / "refit",
            epochs=epochs,
            evaluator=None,
            run=run,
            choices=[],
            reporter=reporter,
        )
    return model


def _fit(
    autosample: AutoSample,
    pairs: Interactions,
    settings: Settings,
    *,
    stage: str,
    folder: Path,
    epochs: int,
    evaluator: Evaluator | None,
    run: Run,
    choices: Sequence[tf.keras.callbacks.Callback],
    reporter: Reporter | None,
) -> list[dict[str, Any]]:
    """Trains from wherever the stage's checkpoint stands; the history's rows."""
    steps = steps_per_epoch(pairs.num_pairs, settings.batch_size)
    autosample.compile(
        optimizer=make_optimizer(settings),
        jit_compile=settings.jit,
        steps_per_execution=min(steps, _STEPS_PER_CALL),
    )
    back_up = BackUp(autosample, folder)
    history = History(folder / "history.csv")
    done = back_up.restore()
    history.load(done)
    stopped = [choice.replay(history.rows) for choice in choices if hasattr(choice, "replay")]
    if done < epochs and not any(stopped):
        callbacks = [
            StopOnDivergence(),
            *([TimeSamplers(_timed_batch(pairs, settings))] if settings.time_samplers else []),
            RefreshSamplers(),
            ReportHealth(),
            EvaluateEpoch(evaluator),
            *choices,
            Record(history, run.tensorboard / stage),
            back_up,
            *([reporter(stage, epochs)] if reporter else []),
        ]
        batches = training_batches(
            pairs, settings.batch_size, seed=stage_seed(settings, stage), first_epoch=done
        )
        with named_refusals(autosample, lambda: _timed_batch(pairs, settings)):
            autosample.fit(
                batches,
                steps_per_epoch=steps,
                initial_epoch=done,
                epochs=epochs,
                callbacks=callbacks,
                verbose=0,
            )
    return history.rows


def _timed_batch(pairs: Interactions, settings: Settings) -> dict[str, tf.Tensor]:
    """The second batch: what samplers do in step 0 they do not in most steps."""
    batches = training_batches(pairs, settings.batch_size, seed=settings.seed)
    return next(iter(batches.skip(1)))


def _measure(model: Recommender, data: Dataset, settings: Settings) -> dict[str, float]:
    """The test metrics. Nothing may be chosen after this."""
    seen, learned = seen_in_test(data, settings), learned_from(data, settings)
    return Evaluator(model, data.test, seen, settings.top_k, learned).mean()


def learned_from(data: Dataset, settings: Settings) -> Interactions:
    """The pairs that a run's final model is trained on, which are its graph too."""
    return data.seen if settings.refit else data.train


def chosen_on(data: Dataset, settings: Settings) -> Interactions:
    """The pairs that every choice is made on: a run's validation."""
    return data.test if settings.select_on_test else data.valid


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


def build(settings: Settings, pairs: Interactions) -> Recommender:
    return build_model(
        settings.model,
        pairs,
        dim=settings.dim,
        layers=settings.layers,
        seed=stage_seed(settings, "initial"),
        dtype=settings.precision,
    )


def _initialized(
    settings: Settings, pairs: Interactions, origin: Run, result: SearchResult
) -> Recommender:
    """The model where retraining starts."""
    model = build(settings, pairs)
    if settings.init == "search":
        read_parameters(model, origin.search / "parameters")
    elif settings.init == "rewind":
        read_parameters(model, origin.search / f"epoch-{result.rewind_epoch}")
    return model


def _fixed_mixture(
    model: Recommender,
    feedback: Feedback,
    settings: Settings,
    result: SearchResult,
    stage: str,
    held_out: Interactions | None = None,
) -> AutoSample:
    """The survivors under the weights that the search ended with; of `held_out` they learn
    nothing, it tells how many negatives are false."""
    return _mixture(
        model,
        feedback,
        settings,
        stage=stage,
        epochs=settings.retrain_epochs,
        samplers=result.survivors,
        objective="uniform",
        held_out=held_out,
        weights=result.weights,
    )


def _mixture(
    model: Recommender,
    feedback: Feedback,
    settings: Settings,
    *,
    stage: str,
    epochs: int,
    samplers: Sequence[str],
    objective: str,
    held_out: Interactions | None,
    weights: Mapping[str, float] | None = None,
) -> AutoSample:
    """What both stages train, as the settings have it."""
    steps = steps_per_epoch(feedback.train.num_pairs, settings.batch_size)
    return AutoSample(
        model,
        feedback.train,
        given=feedback.given,
        validation=held_out,
        samplers=samplers,
        objective=objective,
        weights=weights,
        loss=settings.loss,
        mixing=settings.mixing,
        temperature=settings.temperature,
        l2=settings.l2,
        warmup_steps=settings.drop_warmup * steps,
        total_steps=epochs * steps,
        users_per_pool=settings.users_per_pool,
        health_every=min(_HEALTH_EVERY, steps),
        seed=stage_seed(settings, stage),
    )


def make_optimizer(settings: Settings) -> tf.keras.optimizers.Optimizer:
    if settings.optimizer == "adam":
        return tf.keras.optimizers.Adam(settings.learning_rate, jit_compile=False)
    return RowSparseAdam(settings.learning_rate)


def _monitor(settings: Settings) -> str:
    return f"ndcg@{settings.top_k[0]}"


def stage_seed(settings: Settings, stage: str) -> int:
    """Another seed for each use of randomness, below 2^31, from the run's one."""
    stages = ("initial", "search", "retrain", "refit")
    sequence = np.random.SeedSequence([settings.seed, stages.index(stage)])
    return int(sequence.generate_state(1)[0] >> 1)


def _dropped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The drops that the history's `dropped` column tells, in order."""
    return [
        {"sampler": spec, "epoch": row["epoch"], "weight": float(weight)}
        for row in rows
        for spec, _, weight in (
            entry.rpartition("=") for entry in (row.get("dropped") or "").split(";") if entry
        )
    ]

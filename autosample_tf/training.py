"""The two stages: search under the mixture, retrain with what it chose; then test, once.

Everything is chosen on validation: the weights, what is dropped, the epoch to stop at.
The test pairs are read by one function, `_measure`, after the last choice.
"""

from __future__ import annotations

import dataclasses
import os
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
    StopOnDivergence,
    read_parameters,
    write_parameters,
)
from autosample_tf.catalog import load
from autosample_tf.errors import InputError, expected
from autosample_tf.evaluation import Evaluator, check_cutoffs
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.models import Recommender, build_model
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.runs import History, Run
from autosample_tf.samplers import build_samplers
from autosample_tf.settings import Settings
from autosample_tf.splits import with_validation

_STEPS_PER_CALL = 64  # steps of the graph's own loop: Python is asked once for all of them

# Called when a stage begins, with its name and most epochs; its callback reports progress.
Reporter = Callable[[str, int], tf.keras.callbacks.Callback]


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a run's dataset comes from: `catalog.load`'s arguments."""

    dataset: str
    data_dir: str | None = None
    user_column: str | None = None
    item_column: str | None = None

    def load(self, seed: int) -> Dataset:
        return load(
            self.dataset,
            data_dir=self.data_dir,
            user_column=self.user_column,
            item_column=self.item_column,
            seed=seed,
        )


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


def search(
    source: str | Source | Dataset,
    settings: Settings | None = None,
    *,
    run_dir: str | Path,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Searches, retrains, evaluates on test once, and writes the run folder.

    Args:
      source: a known dataset's name, a path, a `Source`, or a dataset in memory (which
        `retrain` and `evaluate` then have to be given again).
      settings: None: the defaults.
      run_dir: the run's folder, which must not be there yet unless `resume`.
      resume: go on with a run that was stopped, with the same settings and data.
      reporter: what shows progress; None: nothing.

    Returns:
      What `metrics.json` holds.

    Raises:
      InputError: for data or settings that cannot be used.
    """
    settings = settings or Settings()
    data = _load(source, settings, settings.seed)
    settings = settings.resolved(data.train.num_pairs)
    check_cutoffs(settings.top_k, data.num_items)
    build_samplers(settings.samplers)  # refuses unknown ones before anything is written
    run = Run(run_dir)
    with run.locked():
        run.start(_config("search", source, data, settings, settings.seed), resume=resume)
        if resume and (run.path / "metrics.json").is_file():
            return run.metrics()
        result = _search_stage(run, data, settings, reporter)
        _check_rewind(settings, result)
        return _retrain_stage(run, run, data, settings, result, reporter)


def retrain(
    searched: str | Path,
    *,
    run_dir: str | Path,
    changes: Mapping[str, Any] | None = None,
    source: str | Source | Dataset | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """The second stage alone, from another run's search, into a new run folder.

    Args:
      searched: the run folder whose search is used; nothing in it is changed.
      run_dir: the new run's folder.
      changes: settings that differ from the searched run's; those that shape the model or
        the search cannot.
      source: the dataset, if it is not where the searched run found it.
      resume: go on with a retraining that was stopped.
      reporter: what shows progress; None: nothing.

    Returns:
      What the new `metrics.json` holds.
    """
    origin = Run.existing(searched)
    result = _search_result(origin)
    settings = _changed_settings(origin, changes or {})
    _check_rewind(settings, result)
    source, split_seed = source or _source_of(origin), origin.config()["split_seed"]
    data = _load(source, settings, split_seed)
    _check_same_data(origin, data)
    check_cutoffs(settings.top_k, data.num_items)
    run = Run(run_dir)
    with run.locked():
        config = _config("retrain", source, data, settings, split_seed)
        run.start({**config, "searched": _relative(origin.path, run.path)}, resume=resume)
        if resume and (run.path / "metrics.json").is_file():
            return run.metrics()
        return _retrain_stage(run, origin, data, settings, result, reporter)


def evaluate(
    run_dir: str | Path, *, split: str = "test", source: str | Source | Dataset | None = None
) -> dict[str, float]:
    """The metrics of a run's model on `valid` or `test`, recomputed."""
    trained = load_run(run_dir, source=source)
    if split not in ("valid", "test"):
        raise expected("the split valid or test", received=split, remedy="Name one of them.")
    data, cutoffs = trained.data, trained.settings.top_k
    if split == "valid" and trained.settings.refit:
        raise expected(
            "a split that the model was not trained on",
            received="valid, of a run with --refit",
            remedy="Its validation metrics before the refit are in metrics.json.",
        )
    held_out = data.valid if split == "valid" else data.test
    seen = data.train if split == "valid" else trained.seen
    return Evaluator(trained.model, held_out, seen, cutoffs).mean()


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run in memory.

    Attributes:
      run: its folder.
      settings: its settings, resolved.
      data: its dataset with the validation split.
      model: the model with the final parameters.
      seen: train and validation pairs, which recommendations leave out.
    """

    run: Run
    settings: Settings
    data: Dataset
    model: Recommender
    seen: Interactions


def load_run(run_dir: str | Path, *, source: str | Source | Dataset | None = None) -> TrainedRun:
    """Reads a finished run: settings, data and the model's final parameters.

    Raises:
      InputError: if the run is not finished, or its data changed.
    """
    run = Run.existing(run_dir)
    run.metrics()
    settings = _stored_settings(run)
    data = _load(source or _source_of(run), settings, run.config()["split_seed"])
    _check_same_data(run, data)
    seen = data.train.union(data.valid)
    model = _build(settings, seen if settings.refit else data.train)
    read_parameters(model, run.retrain / "parameters")
    return TrainedRun(run, settings, data, model, seen)


def _search_stage(
    run: Run, data: Dataset, settings: Settings, reporter: Reporter | None
) -> SearchResult:
    if (run.search / "result.json").is_file():
        return _search_result(run)
    model = _build(settings, data.train)
    autosample = AutoSample(
        model,
        data.train,
        samplers=settings.samplers,
        objective=settings.objective,
        validation=data.valid,
        loss=settings.loss,
        mixing=settings.mixing,
        temperature=settings.temperature,
        l2=settings.l2,
        warmup_steps=settings.drop_warmup
        * steps_per_epoch(data.train.num_pairs, settings.batch_size),
        seed=_stage_seed(settings, "search"),
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
        evaluator=Evaluator(model, data.valid, data.train, settings.top_k),
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


def _retrain_stage(
    run: Run,
    origin: Run,
    data: Dataset,
    settings: Settings,
    result: SearchResult,
    reporter: Reporter | None,
) -> dict[str, Any]:
    model = _initialized(settings, data.train, origin, result)
    evaluator = Evaluator(model, data.valid, data.train, settings.top_k)
    initial = evaluator.mean()
    best = KeepBest(_monitor(settings), settings.patience, run.retrain / "best")
    best.start_from(initial[_monitor(settings)], model)
    rows = _fit(
        _fixed_mixture(model, data.train, settings, result, "retrain"),
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
    pairs = data.train.union(data.valid)
    model = _initialized(settings, pairs, origin, result)
    if epochs:
        _fit(
            _fixed_mixture(model, pairs, settings, result, "refit"),
            pairs,
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
        optimizer=_optimizer(settings), steps_per_execution=min(steps, _STEPS_PER_CALL)
    )
    autosample.optimizer.build(autosample.model.trainable_variables)
    back_up = BackUp(autosample, folder)
    history = History(folder / "history.csv")
    done = back_up.restore()
    history.load(done)
    stopped = [choice.replay(history.rows) for choice in choices if hasattr(choice, "replay")]
    if done < epochs and not any(stopped):
        callbacks = [
            StopOnDivergence(),
            EvaluateEpoch(evaluator),
            *choices,
            Record(history, run.tensorboard / stage),
            back_up,
            *([reporter(stage, epochs)] if reporter else []),
        ]
        autosample.fit(
            training_batches(
                pairs,
                settings.batch_size,
                seed=_stage_seed(settings, stage),
                first_epoch=done,
            ),
            steps_per_epoch=steps,
            initial_epoch=done,
            epochs=epochs,
            callbacks=callbacks,
            verbose=0,
        )
    return history.rows


def _measure(model: Recommender, data: Dataset, settings: Settings) -> dict[str, float]:
    """The test metrics. Nothing may be chosen after this."""
    seen = data.train.union(data.valid)
    return Evaluator(model, data.test, seen, settings.top_k).mean()


def _build(settings: Settings, pairs: Interactions) -> Recommender:
    return build_model(
        settings.model,
        pairs,
        dim=settings.dim,
        layers=settings.layers,
        seed=_stage_seed(settings, "initial"),
    )


def _initialized(
    settings: Settings, pairs: Interactions, origin: Run, result: SearchResult
) -> Recommender:
    """The model where retraining starts."""
    model = _build(settings, pairs)
    if settings.init == "search":
        read_parameters(model, origin.search / "parameters")
    elif settings.init == "rewind":
        read_parameters(model, origin.search / f"epoch-{result.rewind_epoch}")
    return model


def _fixed_mixture(
    model: Recommender, pairs: Interactions, settings: Settings, result: SearchResult, stage: str
) -> AutoSample:
    """The survivors under the weights that the search ended with."""
    return AutoSample(
        model,
        pairs,
        samplers=result.survivors,
        objective="uniform",
        weights=result.weights,
        loss=settings.loss,
        mixing=settings.mixing,
        temperature=settings.temperature,
        l2=settings.l2,
        seed=_stage_seed(settings, stage),
    )


def _optimizer(settings: Settings) -> tf.keras.optimizers.Optimizer:
    if settings.optimizer == "adam":
        return tf.keras.optimizers.Adam(settings.learning_rate, jit_compile=False)
    return RowSparseAdam(settings.learning_rate)


def _monitor(settings: Settings) -> str:
    return f"ndcg@{settings.top_k[0]}"


def _stage_seed(settings: Settings, stage: str) -> int:
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


def _load(source: str | Source | Dataset, settings: Settings, split_seed: int) -> Dataset:
    if isinstance(source, str):
        source = Source(source)
    data = source.load(split_seed) if isinstance(source, Source) else source
    return with_validation(data, settings.valid_fraction, seed=split_seed)


def _config(
    command: str,
    source: str | Source | Dataset,
    data: Dataset,
    settings: Settings,
    split_seed: int,
) -> dict[str, Any]:
    if isinstance(source, str):
        source = Source(source)
    return {
        "command": command,
        "source": dataclasses.asdict(source) if isinstance(source, Source) else None,
        "dataset": {"name": data.name, "counts": data.counts(), "sha256": data.checksum()},
        "split_seed": split_seed,
        "settings": settings.to_dict(),
    }


def _source_of(run: Run) -> Source:
    stored = run.config()["source"]
    if stored is None:
        raise expected(
            f"the dataset that the run in {run.path} was given from Python",
            received="none",
            remedy="Pass it as source=… again.",
        )
    return Source(**stored)


def _stored_settings(run: Run) -> Settings:
    return Settings.from_dict(run.config()["settings"])


def _check_rewind(settings: Settings, result: SearchResult) -> None:
    if settings.init == "rewind" and settings.rewind_epoch != result.rewind_epoch:
        raise expected(
            f"the epoch that the search kept, {result.rewind_epoch}",
            received=f"--rewind-epoch {settings.rewind_epoch}",
            remedy="Use it, or search again with the other --rewind-epoch.",
        )
    if settings.init == "rewind" and result.rewind_epoch > result.epochs:
        raise expected(
            f"a search of at least {result.rewind_epoch} epochs to rewind to",
            received=f"one that stopped after {result.epochs}",
            remedy="Retrain with another --init, or search with a smaller --rewind-epoch.",
        )


def _search_result(run: Run) -> SearchResult:
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


def _check_same_data(run: Run, data: Dataset) -> None:
    before = run.config()["dataset"]
    if before["sha256"] != data.checksum():
        raise InputError(
            f"Expected the data that the run in {run.path} was made with (sha256 "
            f"{before['sha256']}); received other data (sha256 {data.checksum()}). "
            "Pass the same files."
        )


_CHANGEABLE = ("init", "rewind_epoch", "refit", "retrain_epochs", "patience", "batch_size",
               "learning_rate", "l2", "optimizer", "top_k", "seed")  # fmt: skip


def _changed_settings(origin: Run, changes: Mapping[str, Any]) -> Settings:
    for name in changes:
        if name not in _CHANGEABLE:
            raise expected(
                f"a setting of the retraining alone ({', '.join(_CHANGEABLE)})",
                received=name,
                remedy="Search again to change it.",
            )
    return dataclasses.replace(_stored_settings(origin), **changes)


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start)

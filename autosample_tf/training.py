"""Search, retrain, evaluate: a dataset, settings and a run folder in, metrics out.

The front door of the package; the work is in `searching` and `retraining`.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autosample_tf.catalog import KNOWN, load
from autosample_tf.checkpoints import read_parameters
from autosample_tf.errors import InputError, expected, given_from_python
from autosample_tf.evaluation import Evaluator, check_cutoffs
from autosample_tf.interactions import Dataset, Interactions, Pairs
from autosample_tf.losses import build_loss
from autosample_tf.models import MODELS, Recommender, check_model
from autosample_tf.models.contract import is_dot_product
from autosample_tf.ops.devices import in_use
from autosample_tf.reading.table_options import TableOptions
from autosample_tf.runs import Run
from autosample_tf.samplers import Feedback, build_samplers
from autosample_tf.settings import Settings
from autosample_tf.splits import with_validation
from autosample_tf.stages.fitting import (
    Job,
    Reporter,
    build,
    chosen_on,
    learned_from,
    seen_by_users,
    seen_in_test,
)
from autosample_tf.stages.results import SearchResult, read_search_result
from autosample_tf.stages.retraining import retrain_stage
from autosample_tf.stages.searching import search_stage
from autosample_tf.stages.trial import mixtures_to_try
from autosample_tf.step.sampled_losses import check_together


@dataclasses.dataclass(frozen=True)
class Source(TableOptions):
    """Where a run's dataset comes from: `catalog.load`'s arguments.

    Attributes:
      dataset: a known name, a path, or a pattern of files.
      data_dir: where a known dataset's files are.
    """

    dataset: str
    data_dir: str | None = None

    def load(self, seed: int, *, warns: bool = True) -> Dataset:
        return load(**dataclasses.asdict(self), seed=seed, warns=warns)

    def from_anywhere(self) -> dict[str, Any]:
        """Its attributes by name, places as they are found from any folder."""
        dataset = self.dataset if self.dataset in KNOWN else os.path.abspath(self.dataset)
        data_dir = None if self.data_dir is None else os.path.abspath(self.data_dir)
        return {**dataclasses.asdict(self), "dataset": dataset, "data_dir": data_dir}


def search(
    source: str | Path | Source | Dataset,
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
    data = load_data(source, settings, settings.seed, warns=not resume)
    settings = settings.resolved(data.train.num_pairs)
    check_cutoffs(settings.top_k, data.num_items)
    _check_parts(settings.samplers, data, settings)
    run = Run(run_dir)
    with run.locked():
        run.start(described("search", source, data, settings, settings.seed), resume=resume)
        if resume and (run.path / "metrics.json").is_file():
            return run.metrics()
        job = Job(run, data, settings, reporter)
        result = search_stage(job)
        _check_rewind(settings, result)
        return retrain_stage(job, run, result)


def retrain(
    searched: str | Path,
    *,
    run_dir: str | Path,
    changes: Mapping[str, Any] | None = None,
    source: str | Path | Source | Dataset | None = None,
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
    result = read_search_result(origin)
    settings = _changed_settings(origin, changes or {})
    _check_rewind(settings, result)
    source, split_seed = _source_now(origin, source), origin.config()["split_seed"]
    data = load_data(source, settings, split_seed, warns=False)
    settings = settings.resolved(data.train.num_pairs)
    mixtures = mixtures_to_try(settings, result).values()
    specs = dict.fromkeys(spec for weights in mixtures for spec in weights)
    _check_parts(specs, data, settings)  # before the checksums, which name no remedy
    _check_same_data(origin, data)
    check_cutoffs(settings.top_k, data.num_items)
    run = Run(run_dir)
    with run.locked():
        config = described("retrain", source, data, settings, split_seed)
        run.start({**config, "searched": os.path.relpath(origin.path, run.path)}, resume=resume)
        if resume and (run.path / "metrics.json").is_file():
            return run.metrics()
        return retrain_stage(Job(run, data, settings, reporter), origin, result)


def evaluate(
    run_dir: str | Path,
    *,
    split: str = "test",
    top_k: int | Sequence[int] | None = None,
    source: str | Path | Source | Dataset | None = None,
) -> dict[str, float]:
    """The metrics of a run's model on `valid` or `test`, recomputed.

    Args:
      run_dir: the run's folder.
      split: of the held-out pairs; a run with `select_on_test` has none but test.
      top_k: cutoffs; None: the run's.
      source: the dataset, if it is not where the run found it.

    Raises:
      InputError: if the run is not finished, its data changed, or it was trained on the split.
    """
    _, settings, data, model = _opened(run_dir, source)
    pairs, seen = held_out(data, settings, split)
    cutoffs = settings.top_k if top_k is None else tuple(np.atleast_1d(top_k).tolist())
    check_cutoffs(cutoffs, data.num_items)
    return Evaluator(model, pairs, seen, cutoffs, learned_from(data, settings)).mean()


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run in memory.

    Attributes:
      run: its folder.
      settings: its settings, resolved; `refit` is whether that happened.
      data: its dataset, with the validation split if it chose on one.
      model: the model with the final parameters.
      learned: the pairs that it was trained on.
      seen: train and validation pairs, if asked for test pairs too: recommendations leave them
        out.
    """

    run: Run
    settings: Settings
    data: Dataset
    model: Recommender
    learned: Interactions
    seen: Interactions


def load_run(
    run_dir: str | Path,
    *,
    leave_out_test: bool = False,
    source: str | Path | Source | Dataset | None = None,
) -> TrainedRun:
    """Reads a finished run: settings, data and the model's final parameters.

    Args:
      run_dir: the run's folder.
      leave_out_test: whether the test pairs are seen too, which the run itself does not know.
      source: the dataset, if it is not where the run found it.

    Raises:
      InputError: if the run is not finished, or its data changed.
    """
    run, settings, data, model = _opened(run_dir, source)
    learned = learned_from(data, settings).in_memory()
    seen = seen_by_users(data, settings, leave_out_test=leave_out_test)
    return TrainedRun(run, settings, data, model, learned, seen)


def _opened(
    run_dir: str | Path, source: str | Path | Source | Dataset | None
) -> tuple[Run, Settings, Dataset, Recommender]:
    """A finished run, its settings, its data, and the model with the final parameters."""
    run = Run.existing(run_dir)
    refitted = run.metrics()["retrain"]["refit"]  # where no epoch was better there was none
    settings = dataclasses.replace(_stored_settings(run), refit=refitted)
    split_seed = run.config()["split_seed"]
    data = load_data(_source_now(run, source), settings, split_seed, warns=False)
    _check_same_data(run, data)
    model = build(settings, learned_from(data, settings))
    read_parameters(model, run.retrain / "parameters")
    return run, settings, data, model


def held_out(data: Dataset, settings: Settings, split: str) -> tuple[Pairs, Pairs]:
    """The pairs that a run's model is measured on, and those that rankings then leave out.

    Raises:
      InputError: if the split is neither valid nor test, or the model was trained on it.
    """
    if split not in ("valid", "test"):
        raise expected("the split valid or test", received=split, remedy="Name one of them.")
    if split == "test":
        return data.test, seen_in_test(data, settings)
    if settings.select_on_test:
        raise expected(
            "the split test",
            received="valid, of a run with --select-on-test",
            remedy="It has no other than the test pairs, which it chose on.",
        )
    if settings.refit:
        raise expected(
            "a split that the model was not trained on",
            received="valid, of a run with --refit",
            remedy="Its validation metrics before the refit are in metrics.json.",
        )
    return chosen_on(data, settings), data.train


def _as_source(source: str | Path | Source | Dataset) -> Source | Dataset:
    if isinstance(source, os.PathLike):
        return Source(os.path.abspath(source))  # of which none is a published dataset's name
    if isinstance(source, str):
        return Source(source)
    if not isinstance(source, Source | Dataset):
        raise expected(
            "a dataset's name, its path, a Source or a Dataset",
            received=type(source).__name__,
            remedy="Make a Dataset of it: autosample_tf.load(…).",
        )
    return source


def load_data(
    source: str | Path | Source | Dataset,
    settings: Settings,
    split_seed: int,
    *,
    warns: bool = True,
) -> Dataset:
    """The dataset with the validation split that the settings choose on; `warns` as of `load`."""
    source = _as_source(source)
    data = source.load(split_seed, warns=warns) if isinstance(source, Source) else source
    if settings.select_on_test:
        return data
    return with_validation(data, settings.valid_fraction, seed=split_seed)


def described(
    command: str,
    source: str | Path | Source | Dataset,
    data: Dataset,
    settings: Settings,
    split_seed: int,
) -> dict[str, Any]:
    """What `config.json` says of a run: what was asked of which data."""
    source = _as_source(source)
    return {
        "command": command,
        "source": source.from_anywhere() if isinstance(source, Source) else None,
        "environment": in_use(),  # beside the versions and the machine
        "dataset": {"name": data.name, "counts": data.counts(), "sha256": data.checksum()},
        "split_seed": split_seed,
        "settings": settings.to_dict(),
    }


def _source_now(
    run: Run, source: str | Path | Source | Dataset | None
) -> str | Path | Source | Dataset:
    """A run's data: where it was, or where a path alone says that it is now, read by the options
    that it was read by."""
    if source is None:
        return _source_of(run)
    stored = run.config()["source"]
    moved = _as_source(source)
    if stored is not None and isinstance(moved, Source) and not isinstance(source, Source):
        return dataclasses.replace(Source(**stored), dataset=moved.dataset)
    return source


def _source_of(run: Run) -> Source:
    stored = run.config()["source"]
    if stored is None:
        raise given_from_python(f"the run in {run.path}")
    source = Source(**stored)
    is_path = source.dataset not in KNOWN and not glob.has_magic(source.dataset)
    if is_path and not os.path.exists(source.dataset):
        raise expected(
            f"the data of the run in {run.path} at {source.dataset}",
            received="nothing there",
            remedy="Name where it is now with --dataset (source=… in Python).",
        )
    return source


def _stored_settings(run: Run) -> Settings:
    return Settings.from_dict(run.config()["settings"])


def _check_parts(specs: Iterable[str], data: Dataset, settings: Settings) -> None:
    """Refuses a model that cannot be built of the data, and samplers that are unknown, lack what
    they draw from, or do not go with the loss, before a run begins."""
    check_model(settings.model, data.train, dim=settings.dim, layers=settings.layers)
    samplers = build_samplers(specs)
    for sampler in samplers:
        sampler.check(Feedback(data.train, data.given))
    by_dot_product = is_dot_product(MODELS[settings.model])
    check_together(build_loss(settings.loss), settings.mixing, samplers, by_dot_product)


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


def _check_same_data(run: Run, data: Dataset) -> None:
    before = run.config()["dataset"]
    if before["sha256"] != data.checksum():
        raise InputError(
            f"Expected the data that the run in {run.path} was made with (sha256 "
            f"{before['sha256']}); received other data (sha256 {data.checksum()}). "
            "Pass the same files, with the same options."
        )


_CHANGEABLE = ("init", "shrink", "rewind_epoch", "trial_epochs", "refit", "retrain_epochs",
               "patience", "rate_decays", "batch_size", "learning_rate", "l2", "optimizer", "top_k",
               "seed", "precision", "jit")  # fmt: skip


def _changed_settings(origin: Run, changes: Mapping[str, Any]) -> Settings:
    for name in changes:
        if name not in _CHANGEABLE:
            raise expected(
                f"a setting of the retraining alone ({', '.join(_CHANGEABLE)})",
                received=name,
                remedy="Search again to change it.",
            )
    return dataclasses.replace(_stored_settings(origin), **changes)

"""Exhaustive search beside AutoSample: every candidate alone, their mixture, and the search.

Everybody gets the same data, model, seeds and budget: as many epochs as a search and its
retraining may take together, as many decays of the learning rate, and an end when validation NDCG
has not risen for `patience` epochs. That is fair to exhaustive search, whose every model may be
trained for as long as ours is searched and retrained; a trial's epochs come on top and count in our
cost. Each run is a run folder like any other, so what was compared can be
recommended from, exported, and gone on with where it stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.comparison.significance import adjusted, mean_of, paired_p_value
from autosample_tf.errors import TrainingDivergedError, expected
from autosample_tf.interactions import Dataset
from autosample_tf.runs import Run, folder_name
from autosample_tf.samplers import Sampler, build_samplers
from autosample_tf.settings import Settings
from autosample_tf.stages.results import trained_weights
from autosample_tf.training import Source, described, load_data, search

log = logging.getLogger(__name__)
UNIFORM, AUTOSAMPLE = "uniform mixture", "autosample"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
      contestant: a sampler's spec, `UNIFORM` or `AUTOSAMPLE`.
      seed: of the run, its validation split included.
      epochs: of all its stages.
      seconds: of training and of evaluation on validation, all stages.
      weights: of the samplers that it ended with.
      per_user: [n] float64 by split and metric, as the run folder has them.
    """

    contestant: str
    seed: int
    epochs: int
    seconds: float
    weights: dict[str, float]
    per_user: dict[str, dict[str, np.ndarray]]

    def mean(self, split: str, metric: str) -> float:
        return float(self.per_user[split][metric].mean())


def compare(
    source: str | Path | Source | Dataset,
    settings: Settings | None = None,
    *,
    run_dir: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    against: str | Sequence[str] | None = None,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    resume: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
    runner: Callable[..., Any] = search,
) -> dict[str, Any]:
    """Runs everybody with every seed, and writes `comparison.json` into the folder.

    A contestant whose training diverges with some seed is left out, with every seed, and told;
    resuming tries it again.

    Args:
      source: as of `training.search`.
      settings: of AutoSample; the others differ by what makes them others.
      run_dir: the folder, in which `runs/` has a run folder a contestant and seed.
      seeds: at least one, each another split, initial model and order.
      against: what AutoSample is held against instead of every candidate and their mixture:
        samplers' specs, candidates or not, and `UNIFORM` if wanted.
      variants: more contestants, by name what their settings have other than AutoSample's.
      resume: go on where a comparison stopped; what is finished stays. There may be more seeds
        than before, after those that it began with.
      on_outcome: called when a run has ended, finished ones of before included.
      runner: what runs them, called as `search` is; the command's is
        `processes.search_separately`.

    Returns:
      What `comparison.json` holds, see `summary`.

    Raises:
      InputError: for data or settings that cannot be used, and if AutoSample fails or no sampler
        alone is left; for whatever else a run fails by, after which `resume` goes on.
    """
    settings = settings or Settings()
    seeds = [int(seed) for seed in seeds]
    if against is not None:
        against = [against] if isinstance(against, str) else list(against)
    _check(settings, seeds, against)
    run = Run(run_dir)
    with run.locked():
        num_pairs = _begin(run, source, settings, seeds, against, resume)
        everybody = [
            (seed, contestants(dataclasses.replace(settings, seed=seed), against, variants))
            for seed in seeds
        ]
        one = functools.partial(_outcome, source, num_pairs, run.path / "runs", runner)
        outcomes, diverged = _run_all(everybody, one, on_outcome)
        metric = f"ndcg@{settings.top_k[0]}"
        found = {
            "dataset": run.config()["dataset"]["name"],
            "model": settings.model,
            "seeds": seeds,
            "against": against,
            "patience": settings.patience,
            "rate_decays": settings.rate_decays,
            "most_epochs": most_epochs(settings),
            "diverged": diverged,
            **summary(outcomes, metric, f"recall@{settings.top_k[0]}", variants or ()),
        }
        run.write_json("comparison.json", found)
        return run.read_json("comparison.json")


def most_epochs(settings: Settings) -> int:
    """What a model may be trained for: the epochs of a search and its retraining together."""
    return settings.search_epochs + settings.retrain_epochs


def contestants(
    settings: Settings,
    against: Sequence[str] | None = None,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Settings]:
    """The settings of each run, by name: samplers alone, the mixture, AutoSample, variants.

    The first two are searches under fixed weights that drop nothing, and no retraining.
    """
    fixed = dataclasses.replace(
        settings,
        objective="uniform",
        temperature=None,
        drop_threshold=0.0,
        drop_warmup=0,
        init="search",
        rewind_epoch=None,
        search_epochs=most_epochs(settings),
        retrain_epochs=0,
        time_samplers=False,
    )
    alone = {
        sampler.spec: dataclasses.replace(fixed, samplers=(sampler.spec,))
        for sampler in _alone(settings, against)
    }
    mixture = {UNIFORM: fixed} if against is None or UNIFORM in against else {}
    own = dataclasses.replace(settings, time_samplers=False)
    changed = {
        name: dataclasses.replace(own, **changes) for name, changes in (variants or {}).items()
    }
    return {**alone, **mixture, AUTOSAMPLE: own, **changed}


def summary(
    outcomes: Sequence[Outcome], metric: str, second: str, variants: Iterable[str] = ()
) -> dict[str, Any]:
    """Everybody's figures, and AutoSample against each and against the choices one has.

    Args:
      outcomes: of all contestants with the same seeds.
      metric: what is chosen and compared by.
      second: another that is told.
      variants: the contestants that are no samplers alone either.

    Returns:
      `contestants`: for each its `valid` and `test` metrics (mean, standard_error, count,
      users pooled over seeds), `seconds` and `epochs` (means over seeds), and, of all but
      AutoSample, `against`: its paired difference `autosample - it` in the test metric with its
      standard error, users pooled over seeds, and the adjusted p of a t-test over users.
      `choices`: the same of the best sampler alone in hindsight, of the one that validation
      picks seed by seed, and of the uniform mixture if it ran.
      `cost`: AutoSample's seconds, those of all samplers alone, and their ratio.
    """
    by_name = _grouped(outcomes)
    ours = by_name[AUTOSAMPLE]
    apart = {UNIFORM, AUTOSAMPLE, *variants}
    alone = {name: runs for name, runs in by_name.items() if name not in apart}
    others = {name: runs for name, runs in by_name.items() if name != AUTOSAMPLE}
    p_values = adjusted([_p_value(ours, runs, metric) for runs in others.values()])
    against = {
        name: {**_difference(ours, runs, metric), "p": p}
        for (name, runs), p in zip(others.items(), p_values, strict=True)
    }
    hindsight = max(alone, key=lambda name: _pooled(alone[name], "test", metric).mean())
    picked = [
        max((runs[i] for runs in alone.values()), key=lambda run: run.mean("valid", metric))
        for i in range(len(ours))
    ]
    seconds = {name: sum(run.seconds for run in runs) for name, runs in by_name.items()}
    exhaustive = sum(seconds[name] for name in alone)
    return {
        "metric": metric,
        "contestants": {
            name: {
                **_figures(runs, metric, second),
                **({"against": against[name]} if name in against else {}),
            }
            for name, runs in by_name.items()
        },
        "choices": {
            "best in hindsight": {"candidate": hindsight, **against[hindsight]},
            "picked by validation": {
                "candidate": [run.contestant for run in picked],
                **_difference(ours, picked, metric),
            },
            **({UNIFORM: against[UNIFORM]} if UNIFORM in against else {}),
        },
        "cost": {
            "autosample": seconds[AUTOSAMPLE],
            "exhaustive": exhaustive,
            "ratio": seconds[AUTOSAMPLE] / exhaustive if exhaustive else None,
        },
    }


def _begin(
    run: Run,
    source: str | Path | Source | Dataset,
    settings: Settings,
    seeds: list[int],
    against: Sequence[str] | None,
    resume: bool,
) -> int:
    """Writes, or compares, what is compared; how many train pairs there are."""
    data = load_data(source, settings, seeds[0])
    resolved = settings.resolved(data.train.num_pairs)
    config = described("compare", source, data, resolved, seeds[0])
    begun = _begun_with(run, seeds) if resume else seeds
    run.start({**config, "seeds": begun, "against": against}, resume=resume)
    if len(seeds) > len(begun):
        run.write_json("config.json", {**run.config(), "seeds": seeds})
    return data.train.num_pairs


def _run_all(
    everybody: Sequence[tuple[int, Mapping[str, Settings]]],
    one: Callable[[str, Settings], Outcome],
    on_outcome: Callable[[Outcome], None] | None,
) -> tuple[list[Outcome], dict[str, dict[str, Any]]]:
    """The outcomes of those whose training never diverged; of the others why, by name.

    Args:
      everybody: each seed's contestants.
      one: runs a contestant, or reads what it came to.
      on_outcome: as of `compare`.
    """
    outcomes: list[Outcome] = []
    diverged: dict[str, dict[str, Any]] = {}
    for seed, contesting in everybody:
        for name, settings in contesting.items():
            if name in diverged:
                continue
            try:
                outcome = one(name, settings)
            except TrainingDivergedError as error:
                diverged[name] = {"seed": seed, "error": str(error)}
                _check_enough_left(diverged, contesting, error)
                log.warning("%s diverged with seed %d, and is left out: %s", name, seed, error)
                continue
            outcomes.append(outcome)
            if on_outcome:
                on_outcome(outcome)
    return [each for each in outcomes if each.contestant not in diverged], diverged


def _begun_with(run: Run, seeds: Sequence[int]) -> list[int]:
    """The seeds that a comparison began with, if these go on from them; else these."""
    begun = Run.existing(run.path).config().get("seeds", [])
    return begun if list(seeds[: len(begun)]) == begun else list(seeds)


def _alone(settings: Settings, against: Sequence[str] | None) -> list[Sampler]:
    """The samplers that are trained alone."""
    if against is None:
        return build_samplers(settings.samplers)
    asked = [spec for spec in against if spec != UNIFORM]
    if not asked and against:
        raise expected(
            "a sampler to hold AutoSample against",
            received=f"{UNIFORM!r} alone",
            remedy="Name one beside it: dns.",
        )
    return build_samplers(asked)


def _check(settings: Settings, seeds: Sequence[int], against: Sequence[str] | None) -> None:
    if settings.select_on_test:
        raise expected(
            "a comparison whose choices validation makes",
            received="--select-on-test",
            remedy="Leave it out: `search` has it, to compare with published tables.",
        )
    if settings.refit:
        raise expected(
            "a comparison without --refit", received="--refit", remedy="Refit what it chose."
        )
    if len(build_samplers(settings.samplers)) < 2:
        raise expected(
            "several candidates to compare", received=", ".join(settings.samplers),
            remedy="Name another --sampler.",
        )  # fmt: skip
    _alone(settings, against)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise expected(
            "different seeds of at least 0", received=list(seeds), remedy="Name each once."
        )


def _check_enough_left(
    diverged: Iterable[str], everybody: Iterable[str], error: TrainingDivergedError
) -> None:
    """Raises the error where without those that diverged there is nothing to compare."""
    left = set(everybody) - set(diverged)
    if AUTOSAMPLE not in left or not left - {UNIFORM, AUTOSAMPLE}:
        raise error


def _outcome(
    source: str | Path | Source | Dataset,
    num_pairs: int,
    folder: Path,
    runner: Callable[..., Any],
    name: str,
    settings: Settings,
) -> Outcome:
    """Runs a contestant, or what is left of its run.

    Raises:
      InputError: if a finished one had other settings.
    """
    run = Run(folder / folder_name(name) / f"seed-{settings.seed}")
    if (run.path / "metrics.json").is_file():
        now = settings.resolved(num_pairs).to_dict()
        run.check_same({"settings": run.config()["settings"]}, {"settings": now})
    else:
        begun = (run.path / "config.json").is_file()
        runner(source, settings, run_dir=run.path, resume=begun)
        tf.keras.backend.clear_session()
        gc.collect()  # Keras keeps a run's models in cycles
    metrics = run.metrics()
    trial = metrics["retrain"].get("trial")
    stages = [metrics["search"], metrics["retrain"], *([trial] if trial else [])]
    return Outcome(
        contestant=name,
        seed=settings.seed,
        epochs=sum(stage["epochs"] for stage in stages),
        seconds=sum(stage["seconds"] + stage["evaluation_seconds"] for stage in stages),
        weights=trained_weights(metrics),
        per_user={split: run.per_user(split) for split in ("valid", "test")},
    )


def _grouped(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.contestant, []).append(outcome)
    return by_name


def _pooled(runs: Iterable[Outcome], split: str, metric: str) -> np.ndarray:
    """A value a user and seed."""
    return np.concatenate([run.per_user[split][metric] for run in runs])


def _p_value(ours: Sequence[Outcome], theirs: Sequence[Outcome], metric: str) -> float:
    return paired_p_value(_by_user(ours, metric), _by_user(theirs, metric))


def _by_user(runs: Sequence[Outcome], metric: str) -> np.ndarray:
    """Each user's mean over the seeds on test: one user's values of several are no more
    independent than the seeds make them."""
    users = np.concatenate([run.per_user["test"]["users"] for run in runs])
    _, places = np.unique(users, return_inverse=True)
    return np.bincount(places, _pooled(runs, "test", metric)) / np.bincount(places)


def _difference(
    ours: Sequence[Outcome], theirs: Sequence[Outcome], metric: str
) -> dict[str, float | None]:
    found = mean_of(_pooled(ours, "test", metric) - _pooled(theirs, "test", metric))
    return {"difference": found.mean, "standard_error": found.standard_error}


def _figures(runs: Sequence[Outcome], metric: str, second: str) -> dict[str, Any]:
    def of(split: str) -> dict[str, Any]:
        pooled = {name: mean_of(_pooled(runs, split, name)) for name in (metric, second)}
        return {name: dataclasses.asdict(mean) for name, mean in pooled.items()}

    return {
        "valid": of("valid"),
        "test": of("test"),
        "seconds": float(np.mean([run.seconds for run in runs])),
        "epochs": float(np.mean([run.epochs for run in runs])),
        "weights": [run.weights for run in runs],
    }

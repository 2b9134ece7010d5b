"""The first stage of a run: search under the mixture of all candidates.

It goes on from wherever its checkpoint in the run folder stands. Everything is chosen on
validation: the weights, what is dropped, the epoch whose parameters are handed on; `chosen_on`
says which pairs that is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from autosample_tf.autosample import AutoSample
from autosample_tf.callbacks import DropSamplers, KeepBest, KeepEpoch
from autosample_tf.errors import expected
from autosample_tf.evaluation import Evaluator
from autosample_tf.pipeline import steps_per_epoch
from autosample_tf.runs import drops_of, weights_of
from autosample_tf.samplers import Feedback
from autosample_tf.settings import Settings
from autosample_tf.stages.asng import CUTOFF, LearnByComparing, some_users, stretch_length
from autosample_tf.stages.branching import branched_search
from autosample_tf.stages.fitting import (
    Job,
    Stretch,
    build,
    chosen_on,
    compiled_autosample,
    fit,
    stage_seed,
)
from autosample_tf.stages.results import SearchResult, read_search_result, took

# Steps that take as long as tracing another one: some 4 s, of the standard set on gowalla. Of
# smaller batches it would be more; more exact it need not be.
_STEPS_TO_TRACE = 500


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
    within: dict[str, Any] = {"objective": settings.objective}
    compared = None
    if settings.objective == "asng":  # which moves the weights between steps
        compared = _comparison_length(settings, data.train.num_pairs)
        within = {"objective": "uniform", "steps_per_call": compared}
    autosample = compiled_autosample(
        settings,
        model,
        Feedback(data.train, data.given),
        samplers=settings.samplers,
        epochs=settings.search_epochs,
        seed=stage_seed(settings, "search"),
        held_out=held_out,
        **within,
    )
    drop = DropSamplers(settings.drop_threshold, settings.drop_warmup, _STEPS_TO_TRACE)
    rewind = KeepEpoch(settings.rewind_epoch, run.search / f"epoch-{settings.rewind_epoch}")
    best = KeepBest(
        job.monitor,
        settings.patience,
        run.search / "parameters",
        settings.search_epochs,
        decays=0 if settings.retrain_epochs else settings.rate_decays,  # they are retraining's
        with_optimizer=True,
    )
    stretch = Stretch("search", run.search, stage_seed(settings, "search"), settings.search_epochs)
    rows = fit(
        job,
        autosample,
        data.train,
        stretch,
        evaluator=Evaluator(model, held_out, data.train, settings.top_k),
        choices=[rewind, best, drop],
        learner=_comparisons(job, autosample, compared) if compared else None,
    )
    return SearchResult(
        epochs=len(rows),
        best_epoch=best.best_epoch,
        weights={spec: w for spec, w in autosample.weights_by_spec().items() if w > 0},
        dropped=_dropped(rows),
        rewind_epoch=settings.rewind_epoch,
        leaders=_leaders(rows, len(autosample.specs)),
        **took(rows),
    )


def _comparison_length(settings: Settings, num_pairs: int) -> int:
    """Steps of each of the two that `asng` compares.

    Raises:
      InputError: if an epoch has a single one.
    """
    steps = steps_per_epoch(num_pairs, settings.batch_size)
    if steps < 2:
        raise expected(
            "two batches of train pairs at least, after which asng compares two samplers",
            received=f"{num_pairs:,} pairs in batches of {settings.batch_size:,}",
            remedy="Lower --batch-size, or choose another --objective.",
        )
    return stretch_length(steps)


def _comparisons(job: Job, autosample: AutoSample, length: int) -> LearnByComparing:
    """What moves the weights under `asng`: by the NDCG of some users, after so many steps."""
    train, seed = job.data.train, stage_seed(job.settings, "search")
    asked = some_users(chosen_on(job.data, job.settings), seed)
    cutoff = min(CUTOFF, train.num_items)
    evaluator = Evaluator(autosample.model, asked, train, [cutoff])
    return LearnByComparing(autosample, lambda: evaluator.mean()[f"ndcg@{cutoff}"], length, seed)


def _leaders(rows: Sequence[Mapping[str, Any]], num_candidates: int) -> list[str]:
    """Who has the largest weight in a row of the history, and at least twice an equal one or
    more than half of all, each once."""
    leaders: dict[str, None] = {}
    for weights in map(weights_of, rows):
        spec = max(weights, key=weights.__getitem__, default="")
        if weights and (weights[spec] >= 2 / num_candidates or weights[spec] > 0.5):
            leaders[spec] = None
    return list(leaders)


def _dropped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The drops that the history tells, in order."""
    return [
        {"sampler": spec, "epoch": row["epoch"], "weight": weight}
        for row in rows
        for spec, weight in drops_of(row).items()
    ]

"""What a search hands to the retraining, as the run folder has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from autosample_tf.errors import expected
from autosample_tf.runs import Run


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What the search hands to the retraining, as `search/result.json` has it.

    Attributes:
      epochs: how many it took.
      best_epoch: the one with the best validation NDCG, whose parameters are handed on.
      seconds: of training, evaluation not counted, but for that of `asng`'s comparisons.
      evaluation_seconds: of evaluation, epoch by epoch.
      weights: the survivors', by spec, summing to 1.
      dropped: for each sampler dropped, its `sampler`, `epoch` and last `weight`.
      rewind_epoch: whose parameters were kept besides the best one's.
      rounds: of the objective `branches`, for each the `epoch` that it came to, the branches'
        `valid` metric by name, and the `best`.
      leaders: the samplers that had the largest weight when an epoch ended, and at least twice
        an equal one or more than half of all; each once, in the order in which they came to it.
    """

    epochs: int
    best_epoch: int
    seconds: float
    weights: dict[str, float]
    dropped: list[dict[str, Any]]
    rewind_epoch: int
    evaluation_seconds: float = 0.0  # what runs before it was kept have
    rounds: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    leaders: list[str] = dataclasses.field(default_factory=list)

    @property
    def survivors(self) -> list[str]:
        return list(self.weights)


def took(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `seconds` of training and the `evaluation_seconds` of a history's rows together."""
    return {name: sum(row[name] for row in rows) for name in ("seconds", "evaluation_seconds")}


def trained_weights(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The weights that a run's model was retrained under, by spec, of its `metrics.json`.

    Runs of before there were trials went on with the search's.
    """
    return metrics["retrain"].get("weights", metrics["search"]["weights"])


def read_search_result(run: Run) -> SearchResult:
    """What the run's search found.

    Raises:
      InputError: if it has none, or its search is not finished.
    """
    if not (run.search / "result.json").is_file():
        run.check_is_one()
        raise expected(
            f"a finished search in {run.path}",
            received="none",
            remedy="Name the run that this one was retrained from (`searched` in its config.json)."
            if run.config().get("searched")
            else f"Finish it: {run.resuming()}",
        )
    values = run.read_json("search/result.json")
    values.pop("schema_version")
    return SearchResult(**values)

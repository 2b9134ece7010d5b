"""What an exported model is, on a page: data, figures, samplers, settings. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosample_tf.stages.results import trained_weights

_SIGNATURES = (
    ("serving_default", "user_id [b]", "item_id, score [b, k]; known [b]"),
    ("recommend", "user_id [b], k, exclude_item_id [b, any]", "item_id, score [b, k]; known [b]"),
    ("similar_items", "item_id [b], k", "item_id, score (cosine) [b, k]; known [b]"),
    ("score", "user_id [b], item_id [b]", "score, known [b]"),
    ("embed_user", "user_id [b]", "embedding [b, dim]; known [b]"),
    ("embed_item", "item_id [b]", "embedding [b, dim]; known [b]"),
)


def model_card(
    config: Mapping[str, Any], metrics: Mapping[str, Any], exported: Mapping[str, Any]
) -> str:
    """The page, in Markdown.

    Args:
      config: of the run, `config.json`.
      metrics: of the run, `metrics.json`.
      exported: of the export, `export.json`.
    """
    dataset, settings = config["dataset"], config["settings"]
    parts = [
        f"# {metrics['model']} on {dataset['name']}",
        "Recommends items to users of implicit feedback. Exported by autosample-tf, which "
        "learned the sampler of its negatives.",
        "## Data",
        _table(("", ""), [*dataset["counts"].items(), ("sha256", dataset["sha256"])]),
        "## Figures",
        _selected(metrics),
        _table(
            ("", "validation", "test"),
            [(name, value, metrics["test"].get(name)) for name, value in metrics["valid"].items()],
        ),
        "## Sampler weights",
        _table(("sampler", "weight"), trained_weights(metrics).items()),
        "## Settings",
        _table(("", ""), settings.items()),
        "## Signatures",
        _table(("name", "takes", "gives"), _SIGNATURES),
        "Ids are text. Seen items are left out; unknown users get the most popular items.",
        "## Export",
        _table(("", ""), _flat(exported)),
    ]
    return "\n\n".join(parts) + "\n"


def _selected(metrics: Mapping[str, Any]) -> str:
    text = "Full ranking of the catalogue, seen items left out, averaged over users."
    if metrics.get("selected_on") == "test":
        text += " Every choice was made on the test pairs: these figures are optimistic."
    return text


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values with their paths: `quantize.metrics.ndcg@20`."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _table(head: tuple[str, ...], rows: Any) -> str:
    ruler = tuple("---" for _ in head)
    return "\n".join(f"| {' | '.join(map(_shown, cells))} |" for cells in (head, ruler, *rows))


def _shown(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) and value >= 0.01 else f"{value}"
    return text.replace("|", "\\|")

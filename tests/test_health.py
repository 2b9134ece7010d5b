"""The samplers' health against NumPy, and that looking changes nothing."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import LEAST
from step_oracle import parameters
from worlds import (
    NUM_ITEMS,
    WHOLE_CATALOGUE,
    make_batch,
    to_dense,
    toy_held_out,
    toy_model,
    toy_train,
)

import autosample_tf
from autosample_tf.autosample import AutoSample
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.step.health import STATISTICS, popularity_percentiles

SPECS = ["rns", "dns:pool=6", "self-adversarial:pool=5,alpha=1.0"]


def build(**settings: Any) -> AutoSample:
    settings = {"validation": toy_held_out(), "health_every": 1, **settings}
    model = toy_model("mf")
    built = AutoSample(model, toy_train(), samplers=SPECS, objective="uniform", **settings)
    built.compile(tf.keras.optimizers.SGD(0.1, jit_compile=False))
    return built


def batch(step: int = 0) -> dict[str, tf.Tensor]:
    """A user without negatives, and a row of padding."""
    users = [0, 1, 2, WHOLE_CATALOGUE, 4, 5, 0]
    positives = [int(toy_train().row(user)[0]) for user in users]
    return make_batch(users, positives, [7 / 6] * 6 + [0.0], step)


def by_hand(autosample: AutoSample, data: dict[str, tf.Tensor]) -> dict[str, float]:
    """Every statistic, a pair at a time."""
    drawn = autosample.sample(data)
    tables = parameters(autosample.model)
    users, items = tables[:-NUM_ITEMS], tables[-NUM_ITEMS:]
    popularity, held_out = toy_train().popularity, to_dense(toy_held_out())
    real = np.flatnonzero(data["weight"].numpy() > 0)
    told = {}
    for spec, negatives in zip(SPECS, drawn.negatives, strict=True):
        sums = dict.fromkeys(("score", "popularity", "false", "rows", "unmasked", "draws"), 0.0)
        counts, gradient = np.zeros(NUM_ITEMS), np.zeros((len(data["user"]), items.shape[1]))
        for b in real:
            user, positive = int(data["user"][b]), int(data["positive"][b])
            for item, weight in zip(negatives.items[b].numpy(), negatives.weights[b].numpy(),
                                    strict=True):  # fmt: skip
                below = (popularity < popularity[item]).mean()
                alike = (popularity == popularity[item]).mean()
                gap = users[user] @ (items[item] - items[positive])
                sums["score"] += weight * users[user] @ items[item]
                sums["popularity"] += weight * (below + alike / 2)
                sums["false"] += weight * held_out[user, item]
                sums["rows"] += weight
                sums["unmasked"] += weight > 0
                sums["draws"] += 1
                counts[item] += weight
                slope = weight / (1 + np.exp(-gap)) * float(data["weight"][b]) / len(gradient)
                gradient[b] += slope * (items[item] - items[positive])
        told[f"negative_score/{spec}"] = sums["score"] / sums["rows"]
        told[f"popularity/{spec}"] = sums["popularity"] / sums["rows"]
        told[f"false_negatives/{spec}"] = sums["false"] / sums["rows"]
        told[f"masked/{spec}"] = 1 - sums["unmasked"] / sums["draws"]
        told[f"gradient_norm/{spec}"] = float(np.linalg.norm(gradient))
        told[f"distinct/{spec}"] = counts.sum() ** 2 / (counts**2).sum()
    pairs = [(int(data["user"][b]), int(data["positive"][b])) for b in real]
    told["positive_score"] = float(np.mean([users[u] @ items[i] for u, i in pairs]))
    return told


def test_every_statistic_is_that_of_the_pairs_one_by_one() -> None:
    autosample = build()
    expected = by_hand(autosample, batch())
    assert {name.partition("/")[0] for name in expected} == {*STATISTICS, "positive_score"}
    assert expected["masked/rns"] > 0  # the user with the whole catalogue
    assert sum(expected[f"false_negatives/{spec}"] for spec in SPECS) > 0
    autosample.train_step(batch())
    assert autosample.health() == pytest.approx(expected, abs=1e-5)


def test_steps_are_averaged_and_others_than_every_nth_are_not_looked_at() -> None:
    autosample = build(health_every=2)
    expected = []
    for step in range(4):
        if step % 2 == 0:
            expected.append(by_hand(autosample, batch(step)))
        autosample.train_step(batch(step))
    health = autosample.health()
    for name in ("negative_score/rns", "masked/dns:pool=6", "distinct/rns", "positive_score"):
        assert health[name] == pytest.approx(np.mean([e[name] for e in expected]), abs=1e-5)


def test_every_epoch_begins_anew() -> None:
    """Else an epoch's averages would be those since the training began."""
    autosample, steps = build(health_every=2), steps_per_epoch(toy_train().num_pairs, 4)
    seen = []

    class Look(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            health = autosample._health
            seen.append((health.means.count.numpy().max(), health.positive_score.count.numpy()))

    batches = training_batches(toy_train(), 4, seed=0)
    autosample.fit(batches, steps_per_epoch=steps, epochs=3, callbacks=[Look()], verbose=0)
    looked = [sum(step % 2 == 0 for step in range(e * steps, (e + 1) * steps)) for e in range(3)]
    assert [steps_seen for steps_seen, _ in seen] == looked
    assert all(examples <= 4 * looks for (_, examples), looks in zip(seen, looked, strict=True))


def test_looking_changes_no_step() -> None:
    tables = []
    for health_every in (1, 1000):
        autosample = build(health_every=health_every)
        for step in (1, 2):
            autosample.train_step(batch(step))
        tables.append(parameters(autosample.model))
    np.testing.assert_array_equal(*tables)


def test_what_was_not_seen_is_not_told() -> None:
    autosample = build()
    assert autosample.health() == {}
    autosample.drop(["rns"])
    autosample.train_step(batch())
    assert not any(name.endswith("/rns") for name in autosample.health())
    assert "masked/dns:pool=6" in autosample.health()


def test_without_held_out_pairs_false_negatives_are_not_told() -> None:
    autosample = build(validation=None)
    autosample.train_step(batch())
    told = {name.partition("/")[0] for name in autosample.health()}
    assert told == {*STATISTICS, "positive_score"} - {"false_negatives"}


def test_percentiles_are_uniform_on_average_and_equal_for_equal_items() -> None:
    percentiles = popularity_percentiles(np.array([3, 0, 0, 10, 3]))
    np.testing.assert_allclose(percentiles, [0.6, 0.2, 0.2, 0.9, 0.6])
    assert percentiles.mean() == pytest.approx(0.5)


def test_a_run_records_health_and_cost_every_epoch(small_data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        LEAST, samplers=("rns", "dns:pool=4"), search_epochs=2, time_samplers=True
    )
    autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    with (tmp_path / "run" / "search" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        for spec in ("rns", "dns:pool=4"):
            assert {f"{name}/{spec}" for name in STATISTICS} <= set(row)
            assert 0 <= float(row[f"masked/{spec}"]) <= 1
            assert np.isfinite(float(row[f"cost_ms/{spec}"]))
    assert rows[0]["cost_ms/rns"] == rows[1]["cost_ms/rns"]  # timed once a retrace


def test_uniform_negatives_are_false_as_often_as_held_out_pairs_are_many() -> None:
    """A law, on many draws: the share of a user's unobserved items that are held out."""
    train, held_out, user, rows = toy_train(), toy_held_out(), 0, 20_000
    autosample = AutoSample(
        toy_model("mf"), train, samplers=["rns"], objective="uniform",
        validation=held_out, health_every=1,
    )  # fmt: skip
    autosample.compile(tf.keras.optimizers.SGD(0.0, jit_compile=False))
    positive = int(train.row(user)[0])
    autosample.train_step(make_batch([user] * rows, [positive] * rows))
    share = held_out.degrees[user] / (NUM_ITEMS - train.degrees[user])
    seen = autosample.health()["false_negatives/rns"]
    assert seen == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / rows))

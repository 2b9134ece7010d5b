"""NeuMF against NumPy, and that nothing takes its score for a dot product."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import Outcome
from small_runs import LEAST, flags
from test_autosample import masked_and_padded_batch, sgd
from test_checkerboard import checkerboard, ranks_of, train_on
from worlds import NUM_ITEMS, NUM_USERS, small_specs, toy_feedback, toy_held_out, toy_train

import autosample_tf
from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.evaluation import Ranker
from autosample_tf.models import NeuMF

DIM = 8


def neumf(num_items: int = NUM_ITEMS, layers: int = 2) -> NeuMF:
    """With biases that are not 0."""
    model = NeuMF(NUM_USERS, num_items, layers=layers, dim=DIM, init_scale=0.7)
    for place, bias in enumerate(model.biases):
        bias.assign(np.linspace(-0.5, 0.5, bias.shape[0]) + 0.1 * place)
    return model


def by_hand(model: NeuMF, user: np.ndarray, item: np.ndarray) -> float:
    """h^T [p_g * q_g ; MLP([p_m ; q_m])] of two rows."""
    half = len(user) // 2
    hidden = np.concatenate([user[half:], item[half:]])
    for kernel, bias in zip(model.kernels, model.biases, strict=True):
        hidden = np.maximum(hidden @ kernel.numpy() + bias.numpy(), 0)
    return float(model.output_weights.numpy()[:, 0] @ [*(user[:half] * item[:half]), *hidden])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_scores_are_those_by_hand(layers: int) -> None:
    model = neumf(layers=layers)
    users, items = tf.constant(model.user_table.numpy()), tf.constant(model.item_table.numpy())
    expected = [[by_hand(model, user, item) for item in items.numpy()] for user in users.numpy()]
    np.testing.assert_allclose(model.score_all(users, items), expected, atol=1e-5)
    np.testing.assert_allclose(model.score(users[:, None], items[None]), expected, atol=1e-5)
    dot = users.numpy() @ items.numpy().T
    assert np.corrcoef(dot.ravel(), np.ravel(expected))[0, 1] < 0.9


def test_a_catalogue_is_scored_by_parts_with_no_more_than_one_there() -> None:
    """Of 1,000 items no tensor of a pair's hidden layer, 7 * 1,000 * 4, is in the graph."""
    model = neumf(num_items=1000)
    users, items = tf.constant(model.user_table.numpy()), tf.constant(model.item_table.numpy())
    pairwise = model.score(users[:, None, :], items[None, :, :])
    graph = tf.function(model.score_all).get_concrete_function(users, items)
    np.testing.assert_allclose(graph(users, items), pairwise, atol=1e-5)
    functions = [graph.graph, *(graph.graph._get_function(f).graph
                                for f in graph.graph._functions)]  # fmt: skip
    sizes = [
        tensor.shape.num_elements() or 0
        for one in functions
        for operation in one.get_operations()
        for tensor in operation.outputs
        if tensor.shape.rank
    ]
    assert len(functions) > 1
    assert max(sizes) < NUM_USERS * 1000 * DIM // 2


def test_instance_mixing_mixes_representations_before_the_score() -> None:
    """-log sigmoid(s(u, i) - s(u, sum_k p_k e_k)), which no mean of scores is."""
    model = neumf()
    autosample = AutoSample(
        model, toy_train(), samplers=["rns", "dns:pool=6"], objective="uniform", mixing="instance",
        weights={"rns": 0.25, "dns:pool=6": 0.75},
    )  # fmt: skip
    batch = masked_and_padded_batch()
    sampled = autosample.sample(batch)
    columns, items = sampled.columns(), model.item_table.numpy()
    users, positives = (batch[name].numpy() for name in ("user", "positive"))
    total, shares = 0.0, np.array([0.25, 0.75])
    for row in range(len(users)):
        there = shares * sampled.available.numpy()[row]
        if not there.sum():
            continue
        by_sampler = (columns.weights.numpy()[row][:, None] * columns.owners).T @ items[
            columns.items.numpy()[row]
        ]
        mixed = there / there.sum() @ by_sampler
        user = model.user_table.numpy()[users[row]]
        gap = by_hand(model, user, mixed) - by_hand(model, user, items[positives[row]])
        total += batch["weight"].numpy()[row] * np.logaddexp(0, gap)
    np.testing.assert_allclose(autosample.compute_loss(batch), total / len(users), rtol=1e-5)


@pytest.mark.parametrize("mixing", ["loss", "instance"])
def test_every_sampler_trains_it(mixing: str) -> None:
    model = neumf()
    before = [variable.numpy() for variable in model.trainable_variables]
    autosample = AutoSample(
        model, toy_train(), samplers=small_specs(), validation=toy_held_out(), mixing=mixing,
        given=toy_feedback().given,
    )  # fmt: skip
    autosample.compile(sgd())
    logs = autosample.train_step(masked_and_padded_batch())
    assert all(np.isfinite(value) for value in logs.values())
    moved = [
        np.abs(v.numpy() - b).max() for v, b in zip(model.trainable_variables, before, strict=True)
    ]
    assert min(moved) > 0


def test_the_withheld_item_comes_first() -> None:
    train, withheld = checkerboard(40, 200)
    model = NeuMF(train.num_users, train.num_items, layers=2, dim=16, init_scale=0.1)
    train_on(model, train, ["rns", "dns:pool=8"], steps=200)
    assert (ranks_of(withheld, model, train) == 1).mean() > 0.9


@pytest.mark.parametrize(("layers", "dim"), [(0, 8), (3, 12), (1, 7)])
def test_layers_that_the_dim_cannot_be_halved_for_are_refused(layers: int, dim: int) -> None:
    with pytest.raises(InputError, match="a dim that halves as often as it has layers"):
        NeuMF(NUM_USERS, NUM_ITEMS, layers=layers, dim=dim)


def test_a_run_is_searched_evaluated_recommended_from_and_exported(
    command: Callable[..., Outcome], small_data: Path, tmp_path: Path
) -> None:
    """The export compares its rankings with the run's before it says done."""
    run = tmp_path / "run"
    settings = dataclasses.replace(LEAST, model="neumf", layers=2)
    done = command("search", "--dataset", small_data, "--run-dir", run, *flags(settings))
    assert done.code == 0, done.err
    metrics = autosample_tf.evaluate(run, split="test")
    assert metrics == json.loads((run / "metrics.json").read_text())["test"]
    done = command("recommend", "--run", run, "--output", tmp_path / "top.jsonl")
    assert done.code == 0, done.err
    assert command("export", "--run", run).code == 0
    served = tf.saved_model.load(str(run / "export" / "1")).signatures["serving_default"]
    first = json.loads((tmp_path / "top.jsonl").read_text().splitlines()[0])
    answer = served(user_id=tf.constant([first["user"]]))
    assert [item.decode() for item in answer["item_id"].numpy()[0]] == first["items"]


def test_a_ranking_is_by_its_score() -> None:
    model, train = neumf(num_items=300), toy_train()
    nothing_seen = autosample_tf.Interactions.from_pairs(
        train.users, train.items, num_users=NUM_USERS, num_items=300
    )
    users = np.flatnonzero(train.degrees)
    found = Ranker(model, nothing_seen, 10).rank(users)
    scores = np.array(
        [[by_hand(model, model.user_table.numpy()[user], item) for item in model.item_table.numpy()]
         for user in users]
    )  # fmt: skip
    for place, user in enumerate(users):
        scores[place, nothing_seen.row(user)] = -np.inf
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1)[:, :10])

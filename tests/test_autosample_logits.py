"""What moves the logits, objective by objective; the signal itself is `test_heldout`'s."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from step_oracle import (
    Step,
    combination_of,
    draw,
    no_auxiliary,
    parameters,
    propagation_of,
)
from worlds import (
    NEWCOMER,
    NUM_ITEMS,
    NUM_USERS,
    WHOLE_CATALOGUE,
    Batch,
    from_dense,
    make_batch,
    small_specs,
    toy_feedback,
    toy_held_out,
    toy_model,
    toy_train,
)

from autosample_tf.autosample import AutoSample
from autosample_tf.models import MF
from autosample_tf.pipeline import training_batches
from autosample_tf.step import heldout as heldout_module
from autosample_tf.step.heldout import Rows, alignment

L2 = 0.3
THREE = ["rns", "dns:pool=6", "mixgcf:pool=6"]


def sgd(rate: float) -> tf.keras.optimizers.Optimizer:
    return tf.keras.optimizers.SGD(rate, jit_compile=False)


def batch_with(users: list[int], weights: list[float] | None = None) -> Batch:
    train = toy_train()
    positives = [int(train.row(u)[b % max(len(train.row(u)), 1)]) if len(train.row(u)) else 0
                 for b, u in enumerate(users)]  # fmt: skip
    return make_batch(users, positives, weights)


def build(samplers: list[str], objective: str, *, kind: str = "mf", **settings: Any) -> AutoSample:
    settings = {"logits_optimizer": sgd(1.0), "l2": L2, **settings}
    autosample = AutoSample(
        toy_model(kind),
        toy_train(),
        samplers=samplers,
        objective=objective,
        validation=toy_held_out(),
        given=toy_feedback().given,
        **settings,
    )
    autosample.compile(sgd(0.1))
    return autosample


def logits_gradient(step: Step, rows0: np.ndarray, temperature: float) -> np.ndarray:
    """d loss / d logits by central differences of the loss under softmax(logits / T); the
    regularization and the samplers' own losses have no part in it."""
    logits = temperature * np.log(step.weights)
    drawn = [dataclasses.replace(answer, auxiliary=no_auxiliary) for answer in step.drawn]
    step = dataclasses.replace(step, drawn=drawn, l2=0.0)

    def loss(moved: np.ndarray) -> float:
        weights = np.exp(moved / temperature)
        return dataclasses.replace(step, weights=weights / weights.sum()).loss(rows0)

    h = 1e-5
    moves = h * np.eye(len(logits))
    return np.array([(loss(logits + m) - loss(logits - m)) / (2 * h) for m in moves])


def oracle_of(autosample: AutoSample, batch: Batch) -> Step:
    model, mixture = autosample.model, autosample.weights_by_spec()
    return Step(
        propagate=propagation_of(model, toy_train()),
        combine=combination_of(model),
        num_users=NUM_USERS,
        batch={name: tensor.numpy() for name, tensor in batch.items()},
        drawn=draw(autosample, batch),
        weights=np.array([mixture[spec] for spec in autosample.survivors]),
        mixing=autosample.mixing,
        l2=autosample.l2,
    )


def test_uniform_leaves_the_logits_where_they_are() -> None:
    autosample = build(THREE, "uniform")
    before = parameters(autosample.model)
    for _ in range(3):
        autosample.train_step(batch_with([0, 1, 2, 4]))
    np.testing.assert_array_equal(autosample.logits.numpy(), np.zeros(3))
    assert np.abs(parameters(autosample.model) - before).max() > 1e-3


@pytest.mark.parametrize("mixing", ["loss", "instance"])
@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_joint_descends_on_the_mixture_itself(kind: str, mixing: str) -> None:
    specs, temperature = small_specs(), 0.5
    parts = np.arange(1.0, len(specs) + 1)
    weights = dict(zip(specs, parts / parts.sum(), strict=True))
    autosample = build(
        specs, "joint", kind=kind, mixing=mixing, temperature=temperature, weights=weights
    )
    batch = batch_with([0, 1, 2, WHOLE_CATALOGUE, 4, 5, 5, 0], [8 / 6] * 6 + [0.0] * 2)
    step, before = oracle_of(autosample, batch), autosample.logits.numpy()
    expected = logits_gradient(step, parameters(autosample.model), temperature)
    autosample.train_step(batch)
    assert np.abs(expected).max() > 1e-3  # a hundred times what is tolerated
    np.testing.assert_allclose(before - autosample.logits.numpy(), expected, atol=1e-5)


def test_joint_moves_a_logit_by_p_times_its_loss_above_the_mean() -> None:
    """On unmasked rows: p_k (l_k - sum p l) / T, l_k being the logged mean losses."""
    autosample = build(THREE, "joint", temperature=2.0)
    logs = autosample.train_step(batch_with([0, 1, 2, 4]))
    own = np.array([float(logs[f"loss/{spec}"]) for spec in autosample.specs])
    expected = -(own - own.mean()) / 3 / 2.0
    np.testing.assert_allclose(autosample.logits.numpy(), expected, atol=1e-6)


def small_market() -> Any:
    """40 users of two tastes over 60 items, a fifth of what they like observed."""
    rng = np.random.default_rng(0)
    taste = (np.arange(40)[:, None] + np.arange(60)[None, :]) % 2 == 0
    return from_dense(taste & (rng.random((40, 60)) < 0.4))


def test_joint_ends_at_the_easiest_sampler() -> None:
    """Documents the trap: d/dp_k sum_k p_k l_k = l_k, and uniform negatives, the easiest,
    always have the smallest loss; what is better for the ranking is not asked."""
    train = small_market()
    autosample = AutoSample(
        MF(40, 60, dim=8, init_scale=0.1),
        train,
        samplers=["rns", "dns:pool=16"],
        objective="joint",
        temperature=1.0,
        logits_optimizer=tf.keras.optimizers.Adam(0.1, jit_compile=False),
    )
    autosample.compile(tf.keras.optimizers.Adam(0.02, jit_compile=False))
    batches = training_batches(train, 64, seed=0)
    history = autosample.fit(batches, steps_per_epoch=50, epochs=4, verbose=0).history
    assert history["loss/rns"][-1] < history["loss/dns:pool=16"][-1]
    assert autosample.weights_by_spec()["rns"] > 0.95


class Spy:
    """Stands for `alignment` in a step, keeps what it was asked, answers what it is told."""

    def __init__(self, answer: list[float] | None = None):
        self.answer = answer
        self.calls = 0

    def __call__(self, read: Rows, moved: Rows, held_out_loss: Any, losses: Any) -> Any:
        self.calls += 1
        self.read, self.moved = read, moved
        self.held_out_loss, self.losses = held_out_loss, losses
        if self.answer is None:
            self.answered = alignment(read, moved, held_out_loss, losses)
        else:
            self.answered = tf.constant(self.answer)
        return self.answered


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    spy = Spy()
    monkeypatch.setattr(heldout_module, "alignment", spy)
    return spy


def on_the_tables(rows: Rows, of_users: tf.Tensor, of_items: tf.Tensor) -> np.ndarray:
    """Gradients of rows as those of both tables: rows of one user, or item, add up."""
    tables = np.zeros((NUM_USERS + NUM_ITEMS, of_users.shape[1]))
    np.add.at(tables, rows.users.numpy(), of_users.numpy())
    np.add.at(tables, NUM_USERS + rows.items.numpy(), of_items.numpy())
    return tables


def test_in_a_step_the_alignment_is_taken_between_gradients_of_both_tables(spy: Spy) -> None:
    """The step's own losses, whatever they are."""
    autosample = build(THREE, "validation")
    autosample.train_step(batch_with([0, 1, 0, 2, 4, 0]))
    with tf.GradientTape() as tape:
        sources = [tf.identity(spy.read.user_embeddings), tf.identity(spy.read.item_embeddings)]
        tape.watch(sources)
        value = spy.held_out_loss(*sources)
    of_value = on_the_tables(spy.read, *tape.gradient(value, sources))
    with tf.GradientTape() as tape:
        sources = [tf.identity(spy.moved.user_embeddings), tf.identity(spy.moved.item_embeddings)]
        tape.watch(sources)
        per_sampler = spy.losses(*sources)
    of_users, of_items = tape.jacobian(per_sampler, sources)  # [samplers, rows, dim]
    expected = [
        (of_value * on_the_tables(spy.moved, of_users[k], of_items[k])).sum() for k in range(3)
    ]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(spy.answered, expected, rtol=1e-4, atol=1e-6)


def test_rows_without_held_out_items_and_padding_weigh_nothing_in_the_signal(spy: Spy) -> None:
    autosample = build(THREE, "validation")
    users = [0, WHOLE_CATALOGUE, 1, NEWCOMER, 2, 4]  # the last is padding
    autosample.train_step(batch_with(users, [6 / 5] * 5 + [0.0]))
    with tf.GradientTape() as tape:
        tape.watch(rows := tf.identity(spy.read.user_embeddings))
        value = spy.held_out_loss(rows, spy.read.item_embeddings)
    per_row = np.abs(tape.gradient(value, rows).numpy()).max(axis=1)
    np.testing.assert_array_equal(per_row > 0, [True, False, True, False, True, False])


def test_padding_weighs_nothing_in_the_samplers_losses(spy: Spy) -> None:
    autosample = build(THREE, "validation")
    autosample.train_step(batch_with([0, 1, 2, 4], [4 / 3] * 3 + [0.0]))
    with tf.GradientTape() as tape:
        tape.watch(rows := tf.identity(spy.moved.user_embeddings))
        value = spy.losses(rows, spy.moved.item_embeddings)
    slopes = np.abs(tape.jacobian(value, rows).numpy()).max(axis=(0, 2))
    np.testing.assert_array_equal(slopes > 0, [True, True, True, False])


def test_logits_are_a_moving_average_of_the_standardized_alignments(spy: Spy) -> None:
    """logits <- (1 - rate) logits + rate z; of (1, 2, 6): mean 3, variance 14/3."""
    spy.answer = [1.0, 2.0, 6.0]
    z = np.array([-2.0, -1.0, 3.0]) / np.sqrt(14 / 3)
    autosample = build(THREE, "validation", logits_optimizer=sgd(0.25))
    expected = np.zeros(3)
    for _ in range(3):
        autosample.train_step(batch_with([0, 1, 2, 4]))
        expected = 0.75 * expected + 0.25 * z
        np.testing.assert_allclose(autosample.logits.numpy(), expected, atol=1e-6)


def test_a_dropped_samplers_logit_stays_and_the_others_are_standardized_without_it(
    spy: Spy,
) -> None:
    autosample = build(THREE, "validation", logits_optimizer=sgd(0.25))
    autosample.logits.assign([0.5, 7.0, -0.5])
    autosample.drop(["dns:pool=6"])
    spy.answer = [3.0, -1.0]  # z = (1, -1)
    autosample.train_step(batch_with([0, 1, 2, 4]))
    expected = [0.75 * 0.5 + 0.25, 7.0, 0.75 * -0.5 - 0.25]
    np.testing.assert_allclose(autosample.logits.numpy(), expected, atol=1e-6)


def test_logits_forget_so_that_a_sampler_can_come_back(spy: Spy) -> None:
    autosample = build(THREE, "validation", logits_optimizer=sgd(0.25))
    best = []
    for answer in ([9.0, 0.0, 0.0], [0.0, 0.0, 9.0]):
        spy.answer = answer
        step = tf.function(autosample.train_step)  # its graph has the spy's answer in it
        for _ in range(40):
            step(batch_with([0, 1, 2, 4]))
        weights = autosample.weights_by_spec()
        best.append(max(weights, key=weights.__getitem__))
        assert np.abs(autosample.logits.numpy()).max() <= np.sqrt(2) + 1e-5  # (K - 1)^(1/2)
    assert best == ["rns", "mixgcf:pool=6"]


def test_the_signal_leaves_the_models_step_alone() -> None:
    """Search or no search, the same weights take the same step."""
    tables = []
    for objective in ("uniform", "joint", "validation"):
        autosample = build(THREE, objective)
        autosample.train_step(batch_with([0, 1, 2, 4]))
        tables.append(parameters(autosample.model))
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_array_equal(tables[0], tables[2])

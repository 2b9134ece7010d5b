"""DENS' gates, choice and loss against NumPy, and what they become at their limits.

That representations move by its loss as they should is in `test_autosample`, whose oracle
has the same formulas.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from laws import answer_of
from step_oracle import chosen_by_dens, dens_losses, gates_of
from worlds import NUM_USERS, WHOLE_CATALOGUE, context_of, toy_feedback, toy_model, toy_train

from autosample_tf.errors import InputError
from autosample_tf.samplers import Context, build_sampler
from autosample_tf.samplers.dens import DENS

MODELS = ["mf", "lightgcn"]
ROWS = 60


def built(spec: str = "dens:pool=6") -> DENS:
    sampler = build_sampler(spec)
    sampler.build(toy_feedback(), 4)
    return sampler


def context(kind: str, progress: float = 0.05) -> Context:
    users = np.arange(ROWS) % NUM_USERS
    positives = np.arange(ROWS) % 5
    return context_of(users, toy_train(), width=6, model=toy_model(kind), positives=positives,
                      progress=progress)  # fmt: skip


def with_gates(sampler: DENS, value: float) -> DENS:
    """All gates the same everywhere: sigma(2 * value) of each entry is relevant."""
    for gate in (sampler._item, sampler._user, sampler._negative, sampler._positive):
        gate.kernel.assign(tf.zeros_like(gate.kernel))
        gate.bias.assign(tf.fill(gate.bias.shape, value))
    return sampler


@pytest.mark.parametrize("progress", [0.0, 0.05, 0.1, 0.7])
@pytest.mark.parametrize("kind", MODELS)
def test_the_choice_is_that_of_numpy(kind: str, progress: float) -> None:
    sampler, step = built(), context(kind, progress)
    answer = sampler.sample(step)
    chosen = chosen_by_dens(sampler, step)
    has = answer.weights.numpy()[:, 0] > 0
    np.testing.assert_array_equal(answer.items.numpy()[has, 0], chosen[has, 0])
    layers = step.layers().embed(chosen).numpy()  # [batch, layers, layers, width]
    raw = np.einsum("bllw->blw", layers).mean(axis=1)
    np.testing.assert_allclose(answer.embeddings.numpy()[has, 0], raw[has], atol=1e-6)


@pytest.mark.parametrize(("progress", "best"), [(0.0, "hardest"), (0.1, "easiest")])
def test_gates_that_are_all_alike_choose_by_score(progress: float, best: str) -> None:
    """Half of each entry being relevant, (1 - a) s - s / 2 is s / 2 at first and -s / 2 at last."""
    step = context("mf", progress)
    answer = with_gates(built(), 0.0).sample(step)
    scores = step.pool.scores.numpy()
    sign = 1 if best == "hardest" else -1
    column = np.where(step.pool.allowed, sign * scores, -np.inf).argmax(axis=1)
    has = answer.weights.numpy()[:, 0] > 0
    expected = step.pool.items.numpy()[np.arange(ROWS), column]
    np.testing.assert_array_equal(answer.items.numpy()[has, 0], expected[has])


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_without_a_warmup_the_choice_is_the_last_one_from_the_start(progress: float) -> None:
    here = answer_of("dens:pool=6,warmup=0.0", context("mf", progress), toy_train())
    late = answer_of("dens:pool=6", context("mf", 1.0), toy_train())
    np.testing.assert_array_equal(here.items, late.items)


@pytest.mark.parametrize("kind", MODELS)
def test_its_loss_is_that_of_numpy_over_real_rows_with_a_negative(kind: str) -> None:
    sampler, step = built(), context(kind)
    counts = np.where(np.arange(ROWS) < 50, ROWS / 50, 0.0)  # ten rows of padding
    step = dataclasses.replace(step, example_weight=tf.constant(counts, tf.float32))
    answer = sampler.sample(step)
    counts = counts * answer.weights.numpy()[:, 0]
    assert (counts[np.arange(ROWS) % NUM_USERS == WHOLE_CATALOGUE] == 0).all()
    expected = 0.3 * counts @ losses_by_hand(sampler, step, chosen_by_dens(sampler, step)) / ROWS
    assert float(answer.auxiliary_loss) == pytest.approx(expected, abs=1e-6)


def losses_by_hand(sampler: DENS, step: Context, chosen: np.ndarray) -> np.ndarray:
    """[batch], of the items chosen [batch, layers]."""
    layers = step.layers()
    u, p = layers.users.numpy().astype(float), layers.positives.numpy().astype(float)
    n = np.einsum("bllw->blw", layers.embed(chosen).numpy().astype(float))
    return dens_losses(gates_of(sampler), u, p, n)


def test_parts_that_are_all_alike_lose_log_2() -> None:
    """With half of each entry relevant S_r = S_ir for both, which leaves, d = S_n - S_p being
    the gap, (2 log 2 + sp(d / 2) + sp(-d / 2)) / 4."""
    sampler, step = with_gates(built("dens:pool=6,gamma=1.0"), 0.0), context("mf")
    answer = sampler.sample(step)
    negative = step.score(step.user_embeddings, answer.embeddings[:, 0]).numpy()
    half = (negative - step.positive_scores.numpy()) / 2
    each = (2 * np.log(2) + np.logaddexp(0, half) + np.logaddexp(0, -half)) / 4
    expected = (each * answer.weights.numpy()[:, 0]).mean()
    assert float(answer.auxiliary_loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_the_gates_gradient_is_that_of_finite_differences(kind: str) -> None:
    sampler, step = built(), context(kind)
    with tf.GradientTape() as tape:
        answer = sampler.sample(step)
    counts, chosen = answer.weights.numpy()[:, 0], chosen_by_dens(sampler, step)
    variables = sampler.trainable_variables
    assert len(variables) == 8
    for variable, gradient in zip(
        variables, tape.gradient(answer.auxiliary_loss, variables), strict=True
    ):
        value, h, by_hand = variable.numpy(), 1e-3, np.zeros(variable.shape)
        for place in np.ndindex(*variable.shape):
            moved = np.zeros(variable.shape, np.float32)
            moved[place] = h
            sides = []
            for side in (value + moved, value - moved):
                variable.assign(side)
                sides.append(0.3 * (counts * losses_by_hand(sampler, step, chosen)).mean())
            by_hand[place] = (sides[0] - sides[1]) / (2 * h)
        variable.assign(value)
        assert np.abs(by_hand).max() > 1e-4
        np.testing.assert_allclose(gradient, by_hand, atol=2e-6)


def test_the_gates_learn_from_their_own_loss_alone() -> None:
    sampler = built()
    with tf.GradientTape(persistent=True) as tape:
        answer = sampler.sample(context("mf"))
        used = tf.reduce_sum(answer.embeddings * answer.weights[:, :, None])
    assert set(tape.gradient(used, sampler.trainable_variables)) == {None}
    assert all(g is not None for g in
               tape.gradient(answer.auxiliary_loss, sampler.trainable_variables))  # fmt: skip


def test_at_gamma_0_nothing_is_learned() -> None:
    sampler = built("dens:pool=6,gamma=0.0")
    with tf.GradientTape() as tape:
        loss = sampler.sample(context("mf")).auxiliary_loss
    assert float(loss) == 0
    for gradient in tape.gradient(loss, sampler.trainable_variables):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def test_trained_gates_tell_the_positives_relevant_part() -> None:
    sampler, step = built(), context("mf")
    optimizer = tf.keras.optimizers.Adam(0.05, jit_compile=False)
    losses = []
    for _ in range(30):
        with tf.GradientTape() as tape:
            loss = sampler.sample(step).auxiliary_loss
        gradients = tape.gradient(loss, sampler.trainable_variables)
        optimizer.apply_gradients(zip(gradients, sampler.trainable_variables, strict=True))
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]


def test_gates_begin_as_pytorchs_do_and_alike() -> None:
    first, second = (np.concatenate([v.numpy().ravel() for v in built().trainable_variables])
                     for _ in range(2))  # fmt: skip
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) == 4 * (16 + 4)
    assert 0.9 * 0.5 < np.abs(first).max() <= 0.5  # 1 / sqrt(4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dens:pool=0", r"dens's pool of at least 1; received 0"),
        ("dens:warmup=1.5", r"dens's warmup in \[0, 1\]; received 1\.5"),
        ("dens:gamma=-1", r"dens's gamma of at least 0; received -1"),
    ],
)
def test_a_wrong_option_says_what_would_be_right(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_sampler(spec)

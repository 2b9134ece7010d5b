"""Samplers that learn to sample: their draws' laws, and that they learn from rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from laws import (
    DRAWS,
    MASKED,
    SCORES,
    SOME,
    assert_frequencies,
    context_for,
    drawn_items,
    three_users,
    unobserved,
    with_pool,
)
from scipy import stats
from worlds import context_of, from_dense, to_dense, toy_train

from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.samplers import Context, Sampler, build_sampler
from autosample_tf.samplers.contract import Feedback
from autosample_tf.samplers.generator import Generator, draw_of_many
from autosample_tf.samplers.irgan import LikedMask

BATCHES, ROWS = 60, 1000


def built(spec: str, train: Interactions) -> Sampler:
    """With a generator whose logits are of the order of 1."""
    sampler = build_sampler(spec)
    sampler.build(Feedback(train), 4)
    rng = np.random.default_rng(5)
    for variable in sampler.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.8).astype(np.float32))
    return sampler


def one_user(items: int = 6) -> Interactions:
    return from_dense(np.zeros((1, items), bool))


def pool_of_scores(step: int = 0, rows: int = ROWS) -> Context:
    """A step of one user, whose every row has the pool of `SCORES`, masked by `MASKED`."""
    context = context_of(np.zeros(rows, int), one_user(), width=1, step=step)
    return with_pool(context, np.tile(SCORES, (rows, 1)), np.tile(MASKED, (rows, 1)))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def logits_of(sampler: Sampler, user: int) -> np.ndarray:
    return sampler._generator.all_logits(tf.constant([user])).numpy()[0].astype(float)


def gradient(sampler: Sampler, loss: tf.Tensor, tape: tf.GradientTape) -> np.ndarray:
    """With respect to all of the generator's parameters, in one vector."""
    gradients = tape.gradient(loss, sampler.trainable_variables)
    return np.concatenate([tf.convert_to_tensor(g).numpy().ravel() for g in gradients])


def assert_mean_is(gradients: np.ndarray, exact: np.ndarray) -> None:
    """That the batches' gradients [batches, entries] have the exact mean.

    Along the exact gradient within 3 standard errors; in every entry within as many as any of
    them exceeds in one run of a thousand at most (Bonferroni).
    """
    assert np.abs(exact).max() > 0.1
    along = gradients @ exact / np.linalg.norm(exact)
    error = along.std(ddof=1) / np.sqrt(len(along))
    assert abs(along.mean() - np.linalg.norm(exact)) < 3 * error
    error = gradients.std(axis=0, ddof=1) / np.sqrt(len(gradients))
    moves = error > 0
    np.testing.assert_allclose(gradients[:, ~moves].mean(axis=0), exact[~moves], atol=1e-6)
    most = stats.norm.isf(1e-3 / (2 * moves.sum()))
    assert (np.abs(gradients.mean(axis=0) - exact)[moves] < most * error[moves]).all()


# --- the generator


def test_some_logits_are_those_of_all() -> None:
    generator = built("kbgan:dim=3", toy_train())._generator
    users, items = tf.constant([2, 0, 2]), tf.constant([[1, 5], [0, 13], [1, 1]])
    expected = tf.gather(generator.all_logits(users), items, batch_dims=1)
    np.testing.assert_allclose(generator.logits(users, items), expected, rtol=1e-5)


def test_generators_begin_alike_and_nearly_uniform() -> None:
    first, second = (Generator(toy_train(), 8).all_logits(tf.range(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert 0 < np.abs(first).max() < 0.02


@pytest.mark.parametrize("n", [4, 5, 16, 17])
def test_a_draw_of_many_is_in_proportion_to_the_shares(n: int) -> None:
    shares = np.random.default_rng(n).random(n)
    shares[::3] = 0
    shares[n // 2] += 0.1
    uniform = tf.random.stateless_uniform([DRAWS, 2], [n, 1])
    drawn = draw_of_many(tf.tile(tf.constant([shares], tf.float32), [DRAWS, 1]), uniform).numpy()
    there = np.flatnonzero(shares)
    assert_frequencies(drawn, there, shares[there])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_few_the_only_one_with_a_share_is_drawn(n: int) -> None:
    for only in range(n):
        shares = tf.one_hot([only] * 100, n)
        uniform = tf.random.stateless_uniform([100, 2], [n, 1])
        np.testing.assert_array_equal(draw_of_many(shares, uniform), np.full(100, only))


# --- kbgan


def test_kbgan_draws_the_softmax_of_its_generator_over_the_pool() -> None:
    sampler = built("kbgan:pool=6,dim=3", one_user())
    answer = sampler.sample(pool_of_scores(rows=DRAWS))
    columns = np.flatnonzero(MASKED)
    law = softmax(logits_of(sampler, 0)[columns])
    drawn = drawn_items(answer)
    assert len(drawn) == DRAWS
    assert_frequencies(drawn, columns, law)
    expected = np.log(law * 4 / 6)[np.searchsorted(columns, drawn)]  # 4 allowed for 6 unobserved
    np.testing.assert_allclose(answer.log_q.numpy()[:, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_kbgans_gradient_is_that_of_minus_the_mean_reward(baseline: float) -> None:
    """Over draws, -(R - b) grad log p is -grad sum_j p_j R_j, whatever b: all of the pool by
    hand, with R the model's scores and p the generator's softmax."""
    sampler = built("kbgan:pool=6,dim=2", one_user())
    sampler._baseline.assign(baseline)
    columns = tf.constant(np.flatnonzero(MASKED))
    with tf.GradientTape() as tape:
        logits = sampler._generator.all_logits(tf.constant([0]))[0]
        shares = tf.nn.softmax(tf.gather(logits, columns))
        loss = -tf.reduce_sum(shares * tf.gather(tf.constant(SCORES), columns))
    exact = gradient(sampler, loss, tape)
    assert_mean_is(np.stack(list(gradients_of_steps(sampler))), exact)


def gradients_of_steps(sampler: Sampler, steps: int = BATCHES) -> Iterator[np.ndarray]:
    for step in range(steps):
        with tf.GradientTape() as tape:
            loss = sampler.sample(pool_of_scores(step)).auxiliary_loss
        yield gradient(sampler, loss, tape)


@pytest.mark.slow
def test_a_baseline_near_the_rewards_calms_the_gradient() -> None:
    spread = []
    for baseline in (0.0, 1.2, 30.0):
        sampler = built("kbgan:pool=6,dim=2", one_user())
        sampler._baseline.assign(baseline)
        spread.append(np.stack(list(gradients_of_steps(sampler, 150))).std(axis=0).mean())
    assert spread[1] < spread[0] < spread[2]


def test_the_baseline_follows_the_mean_reward_of_real_rows_with_a_negative() -> None:
    sampler = built("kbgan:pool=6,dim=2,rate=0.25", one_user())
    allowed = np.tile(MASKED, (4, 1))
    allowed[1] = False
    context = context_of(np.zeros(4, int), one_user(), width=1)
    context = with_pool(context, np.tile(SCORES, (4, 1)), allowed)
    weights = tf.constant([4 / 3, 4 / 3, 4 / 3, 0.0])
    context = dataclasses.replace(context, example_weight=weights)
    answer = sampler.sample(context)
    sampler.update(context, answer)
    rewards = np.array(SCORES)[answer.items.numpy()[[0, 2], 0]]
    assert sampler._baseline.numpy() == pytest.approx(0.25 * rewards.mean(), rel=1e-5)
    sampler.update(context, answer)
    expected = (0.25 + 0.75 * 0.25) * rewards.mean()
    assert sampler._baseline.numpy() == pytest.approx(expected, rel=1e-5)


def test_a_step_without_rewards_leaves_the_baseline() -> None:
    sampler = built("kbgan:pool=6,dim=2,rate=0.25", one_user())
    sampler._baseline.assign(0.5)
    context = context_of(np.zeros(4, int), one_user(), width=1)
    context = with_pool(context, np.zeros((4, 6)), np.zeros((4, 6), bool))
    answer = sampler.sample(context)
    sampler.update(context, answer)
    assert float(answer.auxiliary_loss) == 0
    assert sampler._baseline.numpy() == 0.5


# --- irgan


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_irgan_draws_the_softmax_of_its_generator_over_the_unobserved(temperature: float) -> None:
    train = three_users()
    sampler = built(f"irgan:dim=3,temperature={temperature}", train)
    items = unobserved(train, SOME)
    answer = sampler.sample(context_for(SOME, width=1))
    law = softmax(logits_of(sampler, SOME)[items] / temperature)
    drawn = drawn_items(answer)
    assert len(drawn) == DRAWS
    likely = law > 1e-3  # a chi-square wants a few of each
    assert np.isin(drawn, items).all()
    assert_frequencies(drawn[np.isin(drawn, items[likely])], items[likely], law[likely])
    expected = np.log(law)[np.searchsorted(items, drawn)]
    np.testing.assert_allclose(answer.log_q.numpy()[:, 0], expected, rtol=1e-3, atol=1e-4)


def test_liked_items_are_masked_by_row() -> None:
    users = np.array([3, 0, 6, 5, 0])
    liked = LikedMask(toy_train()).of(tf.constant(users, tf.int32))
    np.testing.assert_array_equal(liked, to_dense(toy_train())[users])


def test_a_catalogue_without_any_pair_masks_nothing() -> None:
    liked = LikedMask(one_user()).of(tf.constant([0, 0]))
    np.testing.assert_array_equal(liked, np.zeros((2, 6), bool))


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_irgans_gradient_is_that_of_minus_the_mean_reward(share: float) -> None:
    """Whatever share of positives it is shown, -(p / p') R grad log p is in expectation
    -grad sum_j p_j R_j over the catalogue."""
    train, user = three_users(), SOME
    model = MF(3, train.num_items, dim=4, init_scale=0.7)
    sampler = built(f"irgan:dim=2,positives={share}", train)
    scores = model.item_table.numpy() @ model.user_table.numpy()[user]
    with tf.GradientTape() as tape:
        shares = tf.nn.softmax(sampler._generator.all_logits(tf.constant([user]))[0])
        rewards = 2 / (1 + np.exp(-scores)) - 1
        loss = -tf.reduce_sum(shares * tf.constant(rewards, tf.float32))
    exact = gradient(sampler, loss, tape)
    rng, found = np.random.default_rng(2), []
    for step in range(BATCHES):
        positives = rng.choice(train.row(user), ROWS)
        context = context_of(np.full(ROWS, user), train, width=1, model=model, step=step,
                             positives=positives)  # fmt: skip
        with tf.GradientTape() as tape:
            loss = sampler.sample(context).auxiliary_loss
        found.append(gradient(sampler, loss, tape))
    assert_mean_is(np.stack(found), exact)


# --- both


SPECS = ["kbgan:pool=12,dim=3", "irgan:dim=3,temperature=1.0"]


@pytest.mark.parametrize("spec", SPECS)
def test_the_generator_alone_learns_from_the_rewards(spec: str) -> None:
    train = toy_train()
    model = MF(train.num_users, train.num_items, dim=4, init_scale=0.7)
    sampler = built(spec, train)
    with tf.GradientTape(persistent=True) as tape:
        context = context_of(np.arange(7), train, width=12, model=model)
        loss = sampler.sample(context).auxiliary_loss
    assert tape.gradient(loss, model.trainable_variables) == [None, None]
    for variable in sampler.trainable_variables:
        assert np.abs(tf.convert_to_tensor(tape.gradient(loss, variable))).max() > 0


@pytest.mark.parametrize("spec", SPECS)
def test_rewards_make_good_items_likelier(spec: str) -> None:
    """A model that scores by item alone, 2 for items 0 to 9 and -2 for the others."""
    train = from_dense(np.zeros((3, 20), bool))
    model = MF(3, 20, dim=4)
    model.user_table.assign(np.eye(1, 4, dtype=np.float32).repeat(3, axis=0))
    model.item_table.assign(np.outer(np.repeat([2.0, -2.0], 10), np.eye(4)[0]))
    sampler = build_sampler(spec)
    sampler.build(Feedback(train), 4)
    optimizer = tf.keras.optimizers.Adam(0.05, jit_compile=False)
    for step in range(40):
        context = context_of(np.arange(60) % 3, train, width=12, model=model, step=step)
        with tf.GradientTape() as tape:
            answer = sampler.sample(context)
        gradients = tape.gradient(answer.auxiliary_loss, sampler.trainable_variables)
        optimizer.apply_gradients(zip(gradients, sampler.trainable_variables, strict=True))
        sampler.update(context, answer)
    for user in range(3):
        assert softmax(logits_of(sampler, user))[:10].sum() > 0.9


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kbgan:pool=0", r"kbgan's pool of at least 1; received 0"),
        ("kbgan:dim=0", r"kbgan's dim of at least 1; received 0"),
        ("kbgan:rate=0", r"kbgan's rate in \(0, 1\]; received 0"),
        ("irgan:temperature=0", r"irgan's temperature above 0; received 0"),
        ("irgan:positives=2", r"irgan's positives in \[0, 1\]; received 2"),
    ],
)
def test_a_wrong_option_says_what_would_be_right(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_sampler(spec)

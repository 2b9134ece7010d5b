"""Samplers with a softmax over a pool: `softmax-dns`, `softmax-v`, `self-adversarial`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from laws import (
    BEST_ALLOWED,
    DRAWS,
    MASKED,
    NOTHING,
    SCORES,
    answer_of,
    assert_frequencies,
    by_hand,
    context_for,
    drawn_items,
    pool_in_numpy,
    random_pools,
    with_pool,
)

from autosample_tf.ops.randomness import Draws
from autosample_tf.samplers.selection import draw_column

LARGEST = np.float32(1 - 2.0**-24)  # of `Draws.uniform`


def equal_weights(allowed: np.ndarray) -> np.ndarray:
    """[batch, n]: the allowed of a row alike, summing to 1 or, without any, to 0."""
    return allowed / np.maximum(np.sum(allowed, axis=1, keepdims=True), 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the numbers of each row; NaN has no share."""
    e = np.nan_to_num(np.exp(logits - np.nanmax(logits, axis=-1, keepdims=True)))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("allowed", [[True] * 6, MASKED])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("relative", [False, True])
def test_softmax_dns_draws_the_softmax_of_its_pool(
    relative: bool, temperature: float, allowed: list[bool]
) -> None:
    spec = f"softmax-dns:pool=6,temperature={temperature},relative={relative}"
    answer = answer_of(spec, by_hand(SCORES, allowed))
    columns = np.flatnonzero(allowed)
    scores = np.array(SCORES)[columns]
    law = softmax(scores / (temperature * scores.std() if relative else temperature))
    drawn = drawn_items(answer)
    assert len(drawn) == DRAWS
    assert_frequencies(drawn, columns, law)
    expected = np.log(law * len(columns) / 20)[np.searchsorted(columns, drawn)]  # of 20 items
    np.testing.assert_allclose(answer.log_q.numpy()[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_relative_temperature_means_the_same_at_every_scale(scale: float) -> None:
    """Items and log q are those of the scores times any number, plus any number."""
    spec = "softmax-dns:pool=6,temperature=0.7,relative=True"
    plain = answer_of(spec, by_hand(SCORES, MASKED))
    other = answer_of(spec, by_hand([scale * (score + 2) for score in SCORES], MASKED))
    assert (plain.items.numpy() == other.items.numpy()).mean() > 0.999  # but for rounding
    found, expected = (np.unique(np.round(x.log_q, 3)) for x in (other, plain))
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("scores", [SCORES, [1e-6 * score for score in SCORES]])
def test_towards_an_infinite_temperature_all_are_as_likely(
    scores: list[float], relative: bool
) -> None:
    spec = f"softmax-dns:pool=6,temperature=inf,relative={relative}"
    answer = answer_of(spec, by_hand(scores, MASKED))
    assert_frequencies(drawn_items(answer), np.flatnonzero(MASKED), np.ones(4))
    np.testing.assert_allclose(answer.log_q, np.full((DRAWS, 1), -np.log(20)), rtol=1e-5)


@pytest.mark.parametrize(
    "spec", ["self-adversarial:pool=6,alpha=1000.0", "softmax-v:pool=6,rho=1e6"]
)
def test_a_candidate_that_counts_next_to_nothing_is_not_masked(spec: str) -> None:
    """What is told as masked, and what a softmax loss compares with, goes by weights above 0."""
    weights = answer_of(spec, by_hand(SCORES, MASKED)).weights.numpy()
    np.testing.assert_array_equal(weights > 0, np.broadcast_to(MASKED, weights.shape))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("scores", [[0.7] * 6, [0.0] * 6])
def test_equal_scores_are_as_likely(scores: list[float], relative: bool) -> None:
    answer = answer_of(f"softmax-dns:pool=6,relative={relative}", by_hand(scores, MASKED))
    assert_frequencies(drawn_items(answer), np.flatnonzero(MASKED), np.ones(4))
    np.testing.assert_allclose(answer.log_q, np.full((DRAWS, 1), -np.log(20)), rtol=1e-5)


@pytest.mark.parametrize("allowed", [[True] * 6, MASKED])
@pytest.mark.parametrize("temperature", [1e-3, 1e-30])
@pytest.mark.parametrize("relative", [False, True])
def test_towards_temperature_0_softmax_dns_is_dns(
    relative: bool, temperature: float, allowed: list[bool]
) -> None:
    context = by_hand(SCORES, allowed)
    spec = f"softmax-dns:pool=6,temperature={temperature},relative={relative}"
    cold, dns = answer_of(spec, context), answer_of("dns:pool=6", context)
    np.testing.assert_array_equal(cold.items, dns.items)


@pytest.mark.parametrize("temperature", ["1e6", "inf"])
@pytest.mark.parametrize("relative", [False, True])
def test_towards_infinite_temperature_softmax_dns_is_uniform(
    relative: bool, temperature: str
) -> None:
    spec = f"softmax-dns:pool=6,temperature={temperature},relative={relative}"
    answer = answer_of(spec, by_hand(SCORES, MASKED))
    assert_frequencies(drawn_items(answer), np.sort(BEST_ALLOWED), np.ones(4))


@pytest.mark.parametrize("rho", [0.01, 1.0, 30.0])
def test_the_weights_of_softmax_v_are_a_softmax_of_losses(rho: float) -> None:
    """exp(l_j / t) over the allowed, t = sqrt(Var(l) / 2 rho), l = log(1 + exp(s_j - s_p))."""
    context = random_pools()
    answer = answer_of(f"softmax-v:pool=6,rho={rho}", context)
    items, allowed, scores = pool_in_numpy(context)
    several = allowed.sum(axis=1) > 1  # of one allowed candidate the variance is 0
    positives = context.positive_scores.numpy().astype(float)[:, None]
    losses = np.log1p(np.exp(scores - positives))
    temperature = np.sqrt(np.nanvar(losses[several], axis=1, keepdims=True) / (2 * rho))
    weights = answer.weights.numpy()
    np.testing.assert_allclose(
        weights[several], softmax(losses[several] / temperature), rtol=2e-4, atol=1e-7
    )
    np.testing.assert_array_equal(weights[~several], allowed[~several].astype(float))
    np.testing.assert_array_equal(answer.items, items)


@pytest.mark.parametrize("score", [-4.0, 0.0, 0.3, 50.0])
def test_equal_losses_weigh_alike_in_softmax_v(score: float) -> None:
    """Of 5 equal numbers the variance is 0 but for rounding, by which nothing may tip over."""
    allowed = [True, False, True, True, True, True]
    answer = answer_of("softmax-v:pool=6", by_hand([score] * 6, allowed))
    np.testing.assert_allclose(answer.weights[0], np.array(allowed) / 5, rtol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 10.0])
def test_the_weights_of_softmax_v_survive_scores_that_hardly_differ(shift: float) -> None:
    """Scores apart by 1e-5, as at the beginning of training, and losses of log 2 or 10."""
    context = by_hand([shift + 1e-5 * score for score in SCORES], MASKED)
    context = dataclasses.replace(context, positive_scores=tf.zeros([DRAWS]))
    weights = answer_of("softmax-v:pool=6", context).weights.numpy()[0]
    scores = np.where(MASKED, context.pool.scores[0].numpy().astype(float), np.nan)
    losses = np.log1p(np.exp(scores))
    # The losses are known to half a unit of their last place, 3e-8 or 5e-7.
    expected = softmax(losses / np.sqrt(np.nanvar(losses) / 2))
    np.testing.assert_allclose(weights, expected, rtol=0.05)


def test_towards_rho_0_softmax_v_weighs_alike() -> None:
    context = random_pools()
    weights = answer_of("softmax-v:pool=6,rho=1e-12", context).weights.numpy()
    np.testing.assert_allclose(weights, equal_weights(context.pool.allowed), rtol=1e-4)


def test_towards_infinite_rho_softmax_v_is_dns() -> None:
    context = random_pools()
    weights = answer_of("softmax-v:pool=6,rho=1e12", context).weights.numpy()
    scores = context.pool.scores.numpy()
    hardest = np.eye(6)[scores.argmax(axis=1)] * context.pool.allowed.numpy()
    np.testing.assert_allclose(weights, hardest, atol=1e-6)


@pytest.mark.parametrize("spec", ["softmax-v:pool=6", "self-adversarial:pool=6"])
def test_weights_have_no_gradient(spec: str) -> None:
    context = random_pools()
    with tf.GradientTape() as tape:
        tape.watch([context.pool.scores, context.positive_scores])
        weights = answer_of(spec, context).weights
    assert tape.gradient(weights, [context.pool.scores, context.positive_scores]) == [None, None]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_the_weights_of_self_adversarial_are_a_softmax_of_scores(alpha: float) -> None:
    context = random_pools()
    answer = answer_of(f"self-adversarial:pool=6,alpha={alpha}", context)
    items, allowed, scores = pool_in_numpy(context)
    weights = answer.weights.numpy()
    has = allowed.any(axis=1)
    np.testing.assert_allclose(weights[has], softmax(alpha * scores[has]), rtol=1e-5)
    np.testing.assert_array_equal(weights[~has], 0)
    np.testing.assert_array_equal(answer.items, items)
    if alpha == 0:
        np.testing.assert_allclose(weights, equal_weights(allowed), rtol=1e-6)


@pytest.mark.parametrize("alpha", ["1e6", "1e38"])
def test_towards_infinite_alpha_self_adversarial_is_dns(alpha: str) -> None:
    context = random_pools()
    weights = answer_of(f"self-adversarial:pool=6,alpha={alpha}", context).weights.numpy()
    dns = answer_of("dns:pool=6", context)
    hardest = np.eye(6)[dns.items.numpy()[:, 0]] * dns.weights.numpy()
    np.testing.assert_allclose(weights, hardest, atol=1e-6)


SOME_SHARES = [0.0, 0.1, 0.0, 0.55, 0.05, 0.3, 0.0]


@pytest.mark.parametrize("total", [1.0, 1e-6, 37.0])
def test_a_column_is_drawn_in_proportion_to_its_share(total: float) -> None:
    shares = total * np.array(SOME_SHARES)
    uniform = Draws(0, tf.range(DRAWS, dtype=tf.int64), DRAWS).uniform("column", 1)
    columns = draw_column(tf.constant(np.tile(shares, (DRAWS, 1)), tf.float32), uniform).numpy()
    held = np.flatnonzero(shares)
    assert_frequencies(columns, held, shares[held])


def random_shares(rows: int = 20_000, n: int = 24) -> np.ndarray:
    """Rows of which half the columns are 0, the first and the last among them at times."""
    rng = np.random.default_rng(0)
    shares = rng.random((rows, n)) * (rng.random((rows, n)) < 0.5)
    shares[np.arange(rows), rng.integers(0, n, rows)] += 0.1  # none without any
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def test_a_column_is_where_the_running_sum_passes_the_number() -> None:
    shares = random_shares()
    uniform = np.random.default_rng(1).random((len(shares), 1)).astype(np.float32)
    sums = np.cumsum(shares.astype(float), axis=1)
    near = np.abs(sums - uniform * sums[:, -1:]).min(axis=1) < 1e-6  # either is right
    expected = (sums <= uniform * sums[:, -1:]).sum(axis=1)
    found = draw_column(tf.constant(shares), tf.constant(uniform)).numpy()
    np.testing.assert_array_equal(found[~near], expected[~near])
    assert near.mean() < 1e-3


@pytest.mark.parametrize("uniform", [0.0, 2.0**-24, 0.5, LARGEST])
def test_a_column_of_no_share_is_never_drawn(uniform: float) -> None:
    shares = random_shares()
    found = draw_column(tf.constant(shares), tf.fill([len(shares), 1], np.float32(uniform)))
    assert (shares[np.arange(len(shares)), found.numpy()] > 0).all()


def test_the_extreme_numbers_draw_the_first_and_the_last_column() -> None:
    shares = tf.constant([SOME_SHARES, SOME_SHARES[::-1], np.eye(7)[0], np.eye(7)[6]], tf.float32)
    for uniform, expected in ((0.0, [1, 1, 0, 6]), (LARGEST, [5, 5, 0, 6])):
        found = draw_column(shares, tf.fill([4, 1], np.float32(uniform)))
        np.testing.assert_array_equal(found, expected)


def test_of_no_shares_at_all_a_column_is_drawn_all_the_same() -> None:
    """A row without candidates has to name an item, whose weight is 0."""
    context = context_for(NOTHING, width=1, draws=3)
    context = with_pool(context, np.zeros((3, 4)), np.zeros((3, 4), bool))
    answer = answer_of("softmax-dns:pool=4", context)
    np.testing.assert_array_equal(answer.weights, np.zeros((3, 1)))
    assert ((answer.items.numpy() >= 0) & (answer.items.numpy() < 4)).all()
    assert np.isfinite(answer.log_q).all()

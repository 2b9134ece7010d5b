"""Samplers that pick an item of a pool: `dns`, `dns-mn`, `curriculum`, `bns`, `ahns`."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from laws import (
    BEST_ALLOWED,
    BEST_FIRST,
    DEGREES,
    DRAWS,
    MASKED,
    MOST,
    NOTHING,
    NUM_ITEMS,
    SCORES,
    SOME,
    answer_of,
    assert_distribution,
    assert_frequencies,
    assert_picks,
    assert_share,
    by_hand,
    context_for,
    drawn_items,
    pool_in_numpy,
    random_pools,
    three_users,
    unobserved,
    with_pool,
)
from worlds import from_dense

from autosample_tf.interactions import Interactions
from autosample_tf.samplers import Context, Negatives
from autosample_tf.samplers.bns import below, true_negative_posterior


def ranks_of(answer: Negatives, context: Context, user: int) -> np.ndarray:
    """Each draw's rank, from 1, among the user's unobserved items by score."""
    items = unobserved(three_users(), user)
    candidates = context.embed(tf.constant(items, tf.int32))
    scores = context.score(context.user_embeddings[:1], candidates)
    best_first = items[np.argsort(-scores.numpy())]
    return np.argsort(best_first)[np.searchsorted(items, drawn_items(answer))] + 1


@pytest.mark.parametrize("pool", [1, 4, 16])
def test_dns_ranks_follow_the_law_of_a_maximum(pool: int) -> None:
    """P(rank <= r) = 1 - (1 - r/n)^N over n unobserved items: exact where nothing is masked."""
    context = context_for(NOTHING, width=pool)
    ranks = ranks_of(answer_of(f"dns:pool={pool}", context), context, NOTHING)
    r = np.arange(1, NUM_ITEMS + 1)
    assert len(ranks) == DRAWS
    assert_distribution(ranks, 1 - (1 - r / NUM_ITEMS) ** pool)


@pytest.mark.parametrize("user", [SOME, MOST])
@pytest.mark.parametrize("pool", [1, 4])
def test_masked_draws_thin_the_pool_of_dns(pool: int, user: int) -> None:
    """A draw is one of the r best unobserved with probability r/I, I being all items, so
    P(rank <= r) = 1 - (1 - r/I)^N, and with probability (1 - n/I)^N there is none."""
    context = context_for(user, width=pool)
    answer = answer_of(f"dns:pool={pool}", context)
    n = NUM_ITEMS - DEGREES[user]
    none = (1 - n / NUM_ITEMS) ** pool
    assert_share(answer.weights.numpy() == 0, none)
    r = np.arange(1, n + 1)
    law = (1 - (1 - r / NUM_ITEMS) ** pool) / (1 - none)
    assert_distribution(ranks_of(answer, context, user), law)


@pytest.mark.parametrize("user", DEGREES)
def test_dns_is_the_best_of_its_first_columns(user: int) -> None:
    context = context_for(user, width=12, draws=500)
    answer = answer_of("dns:pool=5", context)
    items, allowed = context.pool.items.numpy()[:, :5], context.pool.allowed.numpy()[:, :5]
    scores = context.pool.scores.numpy()[:, :5]
    for row, (item, weight) in enumerate(
        zip(answer.items.numpy()[:, 0], answer.weights.numpy()[:, 0], strict=True)
    ):
        candidates = [(scores[row, c], items[row, c]) for c in range(5) if allowed[row, c]]
        assert (item, weight) == ((max(candidates)[1], 1.0) if candidates else (item, 0.0))


@pytest.mark.parametrize("top", range(2, 7))
def test_dns_mn_is_uniform_over_the_best(top: int) -> None:
    drawn = drawn_items(answer_of(f"dns-mn:pool=6,top={top}", by_hand(SCORES)))
    assert len(drawn) == DRAWS
    assert_frequencies(drawn, BEST_FIRST[:top], np.ones(top))


@pytest.mark.parametrize("top", range(2, 7))
def test_dns_mn_is_uniform_over_fewer_where_fewer_are_allowed(top: int) -> None:
    drawn = drawn_items(answer_of(f"dns-mn:pool=6,top={top}", by_hand(SCORES, MASKED)))
    assert len(drawn) == DRAWS
    best = BEST_ALLOWED[:top]
    assert_frequencies(drawn, best, np.ones(len(best)))


@pytest.mark.parametrize("user", DEGREES)
def test_dns_mn_with_one_is_dns(user: int) -> None:
    context = context_for(user, width=6, draws=500)
    one, dns = (answer_of(spec, context) for spec in ("dns-mn:pool=6,top=1", "dns:pool=6"))
    np.testing.assert_array_equal(one.weights, dns.weights)
    np.testing.assert_array_equal(drawn_items(one), drawn_items(dns))


@pytest.mark.parametrize("user", DEGREES)
def test_dns_mn_with_all_is_uniform_over_the_unobserved(user: int) -> None:
    items = unobserved(three_users(), user)
    answer = answer_of("dns-mn:pool=4,top=4", context_for(user, width=4))
    assert_frequencies(drawn_items(answer), items, np.ones(len(items)))


def at(progress: Fraction, user: int = SOME, width: int = 16) -> Context:
    """A step, so much of the training being done."""
    context = context_for(user, width=width, draws=500)
    return dataclasses.replace(context, progress=tf.constant(float(progress)))


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("progress", [Fraction(k, 8) for k in range(9)])
def test_curriculum_is_the_best_of_exactly_its_prefix(progress: Fraction, rising: bool) -> None:
    """The first max(1, floor((1 - progress) 12)) of 12 candidates; rising: progress 12."""
    context = at(progress)
    width = max(1, int(12 * (progress if rising else 1 - progress)))
    answer = answer_of(f"curriculum:pool=12,rising={rising}", context)
    prefix = dataclasses.replace(context, pool=context.pool.first(width))
    assert_picks(answer, prefix, pool_in_numpy(prefix)[2])


@pytest.mark.parametrize("rising", [False, True])
def test_the_ends_of_curriculum_are_dns_and_the_first_candidate(rising: bool) -> None:
    hard, easy = (Fraction(1), Fraction(0)) if rising else (Fraction(0), Fraction(1))
    for progress, dns in ((hard, "dns:pool=12"), (easy, "dns:pool=1")):
        context = at(progress)
        curriculum = answer_of(f"curriculum:pool=12,rising={rising}", context)
        expected = answer_of(dns, context)
        np.testing.assert_array_equal(curriculum.weights, expected.weights)
        np.testing.assert_array_equal(drawn_items(curriculum), drawn_items(expected))
    np.testing.assert_array_equal(expected.weights, context.pool.first(1).allowed)


def test_the_pool_of_curriculum_takes_every_width_in_turn() -> None:
    """32 candidates over 321 steps: where scores rise by column the item is the last."""
    context = with_pool(context_for(NOTHING, width=1, draws=1), np.arange(32.0)[None, :])
    widths = []
    for step in range(321):
        now = dataclasses.replace(context, progress=tf.constant(step / 320, tf.float32))
        widths.append(int(answer_of("curriculum", now).items[0, 0]) + 1)
    expected = [max(1, 32 * (320 - step) // 320) for step in range(321)]
    assert np.abs(np.subtract(widths, expected)).max() <= 1  # rounding, at whole widths only
    assert (np.diff(widths) <= 0).all()
    assert set(widths) == set(range(1, 33))


def popular_world() -> Interactions:
    """Items 0 to 5 with 0, 4, 1, 2, 0 and 1 of 8 train pairs: shares 0, 1/2, 1/8, ...; no
    pair is user 0's."""
    liked = np.zeros((5, 6), bool)
    for item, count in enumerate([0, 4, 1, 2, 0, 1]):
        liked[1 : 1 + count, item] = True
    return from_dense(liked)


SHARES = np.array([0, 4, 1, 2, 0, 1]) / 8


def merits_of_bns(context: Context, weight: float, prior: float) -> np.ndarray:
    """Minus info (1 - (1 + weight) unbias), candidate by candidate."""
    items, allowed, scores = pool_in_numpy(context)
    positive_scores = context.positive_scores.numpy().astype(float)
    merits = np.full(scores.shape, -np.inf)
    for row, column in zip(*np.nonzero(allowed), strict=True):
        others = scores[row, allowed[row]]
        cumulative = sum(other < scores[row, column] for other in others) / (len(others) + 1)
        p = min(1.0, prior * SHARES[items[row, column]])
        negative, false = (1 - cumulative) * (1 - p), cumulative * p
        unbias = negative / (negative + false) if negative + false else 0.0
        info = 1 / (1 + np.exp(positive_scores[row] - scores[row, column]))
        merits[row, column] = -info * (1 - (1 + weight) * unbias)
    return merits


@pytest.mark.parametrize("weight", [0.1, 5.0])
@pytest.mark.parametrize("prior", [0.5, 1.0, 2.0, 6.0])
def test_bns_minimizes_the_risk(prior: float, weight: float) -> None:
    """With 2 the prior of item 1 is 1, with 6 it is capped there and item 2's is 3/4."""
    context = random_pools()
    merits = merits_of_bns(context, weight, prior)
    answer = answer_of(f"bns:pool=6,weight={weight},prior={prior}", context, popular_world())
    assert_picks(answer, context, merits)
    dns = answer_of("dns:pool=6", context)
    assert (answer.items.numpy() != dns.items.numpy()).mean() > 0.05  # it is another law


@pytest.mark.parametrize("weight", [0.1, 5.0])
def test_bns_without_a_prior_is_dns(weight: float) -> None:
    context = random_pools(rows=2000)
    answer = answer_of(f"bns:pool=6,weight={weight},prior=0", context, popular_world())
    assert_picks(answer, context, pool_in_numpy(context)[2])


def test_the_place_of_a_score_among_the_allowed() -> None:
    context = by_hand([0.3, 0.3, 2.0, 0.9], [True, True, False, True])
    np.testing.assert_allclose(below(context.pool)[0].numpy()[[0, 1, 3]], [0, 0, 2 / 4])


def test_the_posterior_is_the_papers() -> None:
    """unbias = (1 - F)(1 - p) / (1 - F - p + 2 F p), by Bayes' rule, and 0 of 0 / 0."""
    cumulative, prior = np.meshgrid(np.linspace(0, 0.9, 10), np.linspace(0, 1, 11))
    found = true_negative_posterior(tf.constant(cumulative), tf.constant(prior)).numpy()
    denominator = 1 - cumulative - prior + 2 * cumulative * prior
    undefined = (cumulative == 0) & (prior == 1)
    expected = (1 - cumulative) * (1 - prior) / np.where(undefined, 1, denominator)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert undefined.sum() == 1
    assert found[undefined] == 0
    np.testing.assert_array_equal(found[prior == 0], 1.0)  # surely a true negative
    np.testing.assert_allclose(found[cumulative == 0][:-1], 1.0)  # none scores lower


def targets_of_ahns(context: Context, alpha: float, beta: float, p: float) -> np.ndarray:
    """beta (s_p + alpha)^(p + 1), of s_p + alpha at least 1e-6: [batch]."""
    fit = np.maximum(context.positive_scores.numpy().astype(float) + alpha, 1e-6)
    return beta * fit ** (p + 1)


@pytest.mark.parametrize(
    ("alpha", "beta", "p"), [(1, 0.1, -2), (4, 2.0, -2), (4, 9.0, -2.5), (4, 0.3, -0.5)]
)
def test_ahns_is_nearest_to_its_target(alpha: float, beta: float, p: float) -> None:
    """Where s_p + alpha <= 0 the target is above all scores, which is `dns`."""
    context = random_pools(rows=2000)
    answer = answer_of(f"ahns:pool=6,alpha={alpha},beta={beta},p={p}", context)
    target = targets_of_ahns(context, alpha, beta, p)
    scores = pool_in_numpy(context)[2]
    assert_picks(answer, context, -np.abs(scores - np.minimum(target, 100)[:, None]))
    highest = np.where(context.pool.allowed, scores, -np.inf).max(axis=1)
    assert (target < highest).mean() > 0.1  # not everywhere the same as `dns`


def test_the_better_the_positive_the_easier_the_negative_of_ahns() -> None:
    """alpha 1, beta 1, p -2: the target is 1/2 of s_p = 1, and 1/10 of s_p = 9."""
    context = dataclasses.replace(
        by_hand([0.1, 0.5, 2.0, -3.0]), positive_scores=tf.constant(DRAWS // 2 * [1.0, 9.0])
    )
    items = answer_of("ahns:pool=4,beta=1", context).items.numpy()
    np.testing.assert_array_equal(items[:, 0], DRAWS // 2 * [1, 0])


# The last two overflow in 32 bits: 10^6 to the power of 9, and beta itself.
@pytest.mark.parametrize("options", ["p=-2.0", "p=-10.0", "beta=1e38", "beta=inf"])
@pytest.mark.parametrize("positive_score", [-50.0, -1.0])
def test_the_worst_positives_have_dns_in_ahns(positive_score: float, options: str) -> None:
    """At s_p + alpha <= 0, where the formula is infinite or negative, the highest target."""
    context = random_pools(rows=2000)
    context = dataclasses.replace(context, positive_scores=tf.fill([2000], positive_score))
    answer = answer_of(f"ahns:pool=6,{options}", context)
    assert_picks(answer, context, pool_in_numpy(context)[2])


@pytest.mark.parametrize("beta", ["1e6", "1e30", "1e38", "inf"])
def test_towards_infinite_beta_ahns_is_dns(beta: str) -> None:
    context = random_pools(rows=2000)
    answer = answer_of(f"ahns:pool=6,alpha=4,beta={beta}", context)
    assert_picks(answer, context, pool_in_numpy(context)[2])

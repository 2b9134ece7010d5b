"""`warp`: trials until a violator, the rank that they tell, and k-OS."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from laws import (
    DRAWS,
    SOME,
    answer_of,
    assert_distribution,
    assert_share,
    context_for,
    pool_in_numpy,
    standard_errors,
    three_users,
)
from scipy import stats
from worlds import context_of, from_dense

from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.samplers import Context, build_sampler

MANY = 3000  # items of the world in which the number of trials can be read off the scale


def harmonic(n: int) -> float:
    return sum(1 / r for r in range(1, n + 1))


def warp_by_hand(context: Context, pool: int, margin: float) -> list[tuple[int, float, float]]:
    """Each row's item, weight and scale, trial by trial; item -1 where none violates."""
    items, allowed, scores = (x[:, :pool] for x in pool_in_numpy(context))
    train, found = three_users(), []
    for row, user in enumerate(context.users.numpy()):
        unobserved, trials = train.num_items - len(train.row(user)), 0
        found.append((-1, 0.0, 0.0))
        for column in range(pool):
            if not allowed[row, column]:
                continue
            trials += 1
            if scores[row, column] > float(context.positive_scores[row]) - margin:
                rank = max(1, unobserved // trials)
                scale = harmonic(rank) / harmonic(train.num_items)
                found[-1] = (int(items[row, column]), 1.0, scale)
                break
    return found


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pool", [1, 3, 10])
def test_warp_is_the_first_violator_with_the_weight_of_its_rank(pool: int, margin: float) -> None:
    users = np.arange(300) % 3
    model = MF(3, 20, dim=4, init_scale=0.9)
    positives = np.random.default_rng(0).integers(0, 20, 300)
    context = context_of(users, three_users(), width=12, model=model, positives=positives)
    answer = answer_of(f"warp:pool={pool},margin={margin}", context)
    expected = warp_by_hand(context, pool, margin)
    weights = answer.weights.numpy()[:, 0]
    np.testing.assert_array_equal(weights, [weight for _, weight, _ in expected])
    has = weights > 0
    assert 0.2 < has.mean() < 1
    np.testing.assert_array_equal(answer.items.numpy()[has, 0], [e[0] for e in expected if e[1]])
    np.testing.assert_allclose(
        answer.scale.numpy()[has], [e[2] for e in expected if e[1]], rtol=1e-5
    )


def test_a_lead_of_the_margin_is_no_violation() -> None:
    """Scores 1, 2 and 3 against s_p = 3: with margin 1 only 3 is above 2."""
    context = context_for(SOME, width=1, draws=1)
    pool = dataclasses.replace(
        context.pool,
        items=tf.constant([[7, 8, 9]]),
        allowed=tf.constant([[True] * 3]),
        scores=tf.constant([[1.0, 2.0, 3.0]]),
    )
    context = dataclasses.replace(context, pool=pool, positive_scores=tf.constant([3.0]))
    assert answer_of("warp:pool=3,margin=1", context).items.numpy() == 9
    assert answer_of("warp:pool=3,margin=1.01", context).items.numpy() == 8
    assert answer_of("warp:pool=3,margin=0", context).weights.numpy() == 0


@pytest.mark.parametrize(("share", "pool"), [(0.05, 10), (0.3, 10), (0.3, 3), (1.0, 5)])
def test_the_number_of_trials_is_geometric(share: float, pool: int) -> None:
    """Of n unobserved items a share P violates: P(found) = 1 - (1 - P)^T, and of min(trials, T)
    the mean is (1 - (1 - P)^T) / P, T being the pool. Trials are read off the scale."""
    train = from_dense(np.zeros((1, MANY), bool))
    model = MF(1, MANY, dim=1)
    model.user_table.assign([[1.0]])
    model.item_table.assign(np.linspace(1, 0, MANY)[:, None])  # the best come first
    context = context_of(np.zeros(DRAWS, int), train, width=pool, model=model)
    threshold = 1 - (round(share * MANY) - 0.5) / (MANY - 1)
    context = dataclasses.replace(context, positive_scores=tf.fill([DRAWS], float(threshold)))
    answer = answer_of(f"warp:pool={pool},margin=0", context, train)
    found = answer.weights.numpy()[:, 0] > 0
    assert_share(found, 1 - (1 - share) ** pool)
    scales = [harmonic(MANY // trials) / harmonic(MANY) for trials in range(1, pool + 1)]
    gaps = np.abs(np.log(answer.scale.numpy()[:, None] / np.array(scales)))
    trials = np.where(found, gaps.argmin(axis=1) + 1, pool)
    assert gaps.min(axis=1)[found].max() < 1e-5
    assert trials.mean() == pytest.approx((1 - (1 - share) ** pool) / share, rel=0.02)
    t = np.arange(1, pool + 1)
    law = (1 - (1 - share) ** t) / (1 - (1 - share) ** pool)
    assert_distribution(trials[found], law)


# k-OS: user 0 has items 0 to 2, best first, user 1 item 3 alone; nobody has the other 6.
# Item 5 beats them all, so every example has a violator.


def few_positives() -> tuple[Interactions, MF]:
    liked = np.zeros((2, 10), bool)
    liked[0, :3] = liked[1, 3] = True
    model = MF(2, 10, dim=1)
    model.user_table.assign([[1.0], [1.0]])
    model.item_table.assign(np.array([[3.0, 2, 1, 2, 0, 0, 0, 0, 0, 0]]).T)
    return from_dense(liked), model


def k_os(user: int, k: int, positives: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of examples of the user, whose positives take turns: each one's positive, whether it
    counts, and its scale by that of WARP."""
    train, model = few_positives()
    own = train.row(user)
    examples = own[np.arange(DRAWS) % len(own)]
    context = context_of(np.full(DRAWS, user), train, width=8, model=model, positives=examples)
    plain = answer_of("warp:pool=8,margin=100", context, train)
    answer = answer_of(f"warp:pool=8,margin=100,k={k},positives={positives}", context, train)
    found = plain.weights.numpy()[:, 0] > 0  # all but those whose whole pool is masked
    np.testing.assert_array_equal(answer.items, plain.items)
    counts = answer.weights.numpy()[:, 0] > 0
    assert not counts[~found].any()
    return examples[found], counts[found], (answer.scale / plain.scale).numpy()[found]


@pytest.mark.parametrize(("k", "positives"), [(1, 1), (1, 4), (2, 4), (4, 4), (2, 3), (5, 10)])
def test_an_example_counts_where_its_positive_is_the_kth_best(k: int, positives: int) -> None:
    """All draws of the others enumerated: the positive, in as many places as it was drawn,
    takes the k-th. The scale is the number of positives for each of the places."""
    examples, counts, scales = k_os(0, k, positives)
    draws = np.array(list(itertools.product(range(3), repeat=positives - 1)))
    draws = draws.reshape(3 ** (positives - 1), positives - 1)
    for own in range(3):
        better, copies = (draws < own).sum(axis=1), (draws == own).sum(axis=1) + 1
        takes = (better < k) & (k <= better + copies)
        assert_share(counts[examples == own], takes.mean())
        mine = scales[counts & (examples == own)]
        shares = positives / np.unique(copies[takes])
        assert (np.abs(mine[:, None] - shares).min(axis=1) < 1e-5).all()
        expected = (takes * positives / copies).mean()
        assert_mean(np.where(counts, scales, 0)[examples == own], expected)


@pytest.mark.parametrize(("k", "positives"), [(1, 4), (2, 4), (5, 10)])
def test_over_a_users_positives_k_os_is_choosing_the_kth_best(k: int, positives: int) -> None:
    """The k-th best of n draws is among the r best of d items where at least k of them are:
    P = P(Binomial(n, r/d) >= k). Each positive counts for what it is chosen of, 1 in all."""
    examples, counts, scales = k_os(0, k, positives)
    among_best = stats.binom.sf(k - 1, positives, np.arange(4) / 3)
    for own, expected in enumerate(np.diff(among_best)):
        assert_mean(np.where(counts & (examples == own), scales, 0), expected)


@pytest.mark.parametrize(("k", "positives"), [(1, 4), (5, 10)])
def test_of_an_only_positive_k_os_is_warp(k: int, positives: int) -> None:
    """Every draw is it, and so is the k-th best."""
    _, counts, scales = k_os(1, k, positives)
    assert counts.all()
    np.testing.assert_allclose(scales, 1.0, rtol=1e-6)


def test_equal_positives_share_the_kth_place() -> None:
    """All scores 0, as of a model that knows nothing: every example counts, to the same sum."""
    train, model = few_positives()
    model.item_table.assign(np.zeros((10, 1)))
    examples = np.arange(DRAWS) % 3
    context = context_of(np.zeros(DRAWS, int), train, width=8, model=model, positives=examples)
    answer = answer_of("warp:pool=8,margin=1,k=3,positives=7", context, train)
    plain = answer_of("warp:pool=8,margin=1", context, train)
    np.testing.assert_array_equal(answer.weights, plain.weights)
    np.testing.assert_allclose(answer.scale, plain.scale, rtol=1e-6)


def assert_mean(values: np.ndarray, expected: float) -> None:
    if values.std() == 0:
        np.testing.assert_allclose(values.mean(), expected, rtol=1e-6)
    else:
        assert standard_errors(values, expected) < 3.5


@pytest.mark.parametrize("options", ["k=-1", "k=11", "k=3,positives=2"])
def test_a_k_of_more_positives_than_are_drawn_is_refused(options: str) -> None:
    with pytest.raises(InputError, match=r"warp's k in \[0, "):
        build_sampler(f"warp:{options}")

"""What the tests of samplers' laws share: small worlds, contexts, and when a law holds.

Seeds are fixed, so nothing is left to chance; a chi-square p-value under 1 in 1,000 counts
as another law. With S draws the Dvoretzky-Kiefer-Wolfowitz inequality bounds an empirical
distribution's distance from the true one: sqrt(log(2 / 0.001) / 2S).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
from scipy import stats
from worlds import context_of, from_dense

from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.samplers import Context, Negatives, Pool, build_sampler
from autosample_tf.samplers.contract import LOWEST, Feedback

DRAWS = 40_000
NUM_ITEMS = 20
NOTHING, SOME, MOST = 0, 1, 2  # users with 0, 5 and 12 of the 20 items
DEGREES = {NOTHING: 0, SOME: 5, MOST: 12}


def three_users() -> Interactions:
    liked = np.zeros((3, NUM_ITEMS), bool)
    rng = np.random.default_rng(0)
    for user, degree in DEGREES.items():
        liked[user, rng.permutation(NUM_ITEMS)[:degree]] = True
    return from_dense(liked)


def unobserved(train: Interactions, user: int) -> np.ndarray:
    return np.setdiff1d(np.arange(train.num_items), train.row(user))


def context_for(
    user: int, *, width: int, train: Interactions | None = None, draws: int = DRAWS
) -> Context:
    """A step whose whole batch is one user."""
    train = train or three_users()
    model = MF(train.num_users, train.num_items, dim=4, init_scale=0.7)
    return context_of(np.full(draws, user), train, width=width, model=model)


def answer_of(
    spec: str,
    context: Context,
    train: Interactions | None = None,
    given: Interactions | None = None,
) -> Negatives:
    sampler = build_sampler(spec)
    sampler.build(Feedback(train or three_users(), given), 4)
    return sampler.sample(context)


def drawn_items(answer: Negatives) -> np.ndarray:
    """The items of weight > 0."""
    return answer.items.numpy()[answer.weights.numpy() > 0]


def assert_frequencies(drawn: np.ndarray, values: np.ndarray, law: np.ndarray) -> None:
    """That only `values` were drawn, each with its probability."""
    assert np.isin(drawn, values).all()
    counts = np.array([(drawn == value).sum() for value in values])
    assert stats.chisquare(counts, len(drawn) * law / law.sum()).pvalue > 1e-3


def assert_share(hits: np.ndarray, probability: float) -> None:
    assert stats.binomtest(int(hits.sum()), len(hits), probability).pvalue > 1e-3


def assert_distribution(ranks: np.ndarray, law: np.ndarray) -> None:
    """`law[r - 1]` is P(rank <= r): within the Dvoretzky-Kiefer-Wolfowitz bound of it."""
    found = np.array([(ranks <= r).mean() for r in range(1, len(law) + 1)])
    assert np.abs(found - law).max() < np.sqrt(np.log(2 / 1e-3) / (2 * len(ranks)))


def standard_errors(values: np.ndarray, expected: float) -> float:
    """How many of its standard errors the mean of independent values is from the expected."""
    return abs(values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


def with_pool(context: Context, scores: np.ndarray, allowed: np.ndarray | None = None) -> Context:
    """The step with the scores [batch, n] for those of its pool, column c holding item c."""
    allowed = np.ones(scores.shape, bool) if allowed is None else allowed
    pool = Pool(
        items=tf.tile(tf.range(scores.shape[1])[None, :], [len(scores), 1]),
        allowed=tf.constant(allowed),
        scores=tf.constant(np.where(allowed, scores, LOWEST), tf.float32),
    )
    return dataclasses.replace(context, pool=pool)


def by_hand(scores: list[float], allowed: list[bool] | None = None) -> Context:
    """A step whose every row has one pool: column c holds item c with the score given."""
    n = len(scores)
    allowed = [True] * n if allowed is None else allowed
    context = context_of(np.zeros(DRAWS, int), from_dense(np.zeros((1, n), bool)), width=1)
    return with_pool(context, np.tile(scores, (DRAWS, 1)), np.tile(allowed, (DRAWS, 1)))


def random_pools(rows: int = 400, n: int = 6, seed: int = 0) -> Context:
    """A step of rows with pools of their own: three in ten candidates masked, in the first
    row all, and positives' scores from -3 to 3."""
    rng = np.random.default_rng(seed)
    allowed = rng.random((rows, n)) < 0.7
    allowed[0] = False
    context = context_of(np.zeros(rows, int), from_dense(np.zeros((1, n), bool)), width=1)
    context = with_pool(context, rng.normal(size=(rows, n)), allowed)
    return dataclasses.replace(
        context, positive_scores=tf.constant(rng.uniform(-3, 3, rows), tf.float32)
    )


def pool_in_numpy(context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, allowed and scores [batch, n]; scores in float64, those of the masked NaN."""
    pool = context.pool
    allowed = pool.allowed.numpy()
    return pool.items.numpy(), allowed, np.where(allowed, pool.scores.numpy().astype(float), np.nan)


def assert_picks(answer: Negatives, context: Context, merits: np.ndarray) -> None:
    """That every row's item is the allowed one of the greatest merit [batch, n], if any."""
    items, allowed, _ = pool_in_numpy(context)
    np.testing.assert_array_equal(answer.weights[:, 0], allowed.any(axis=1).astype(float))
    has = allowed.any(axis=1)
    best = np.where(allowed, merits, -np.inf).argmax(axis=1)
    picked = items[np.arange(len(items)), best]
    np.testing.assert_array_equal(answer.items.numpy()[has, 0], picked[has])


SCORES = [0.3, -1.2, 2.0, 0.9, -0.4, 1.5]
MASKED = [True, True, False, True, False, True]
BEST_FIRST = np.array([2, 5, 3, 0, 4, 1])
BEST_ALLOWED = np.array([5, 3, 0, 1])

"""Each sampler's distribution against the law that its card states.

Seeds are fixed, so nothing here is left to chance; a chi-square p-value under 1 in 1,000
counts as another law. With S draws the Dvoretzky-Kiefer-Wolfowitz inequality bounds an
empirical distribution's distance from the true one: sqrt(log(2 / 0.001) / 2S).
"""

from __future__ import annotations

import numpy as np
import pytest
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


def answer_of(spec: str, context: Context, train: Interactions | None = None) -> Negatives:
    sampler = build_sampler(spec)
    sampler.build(Feedback(train or three_users()), 4)
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


@pytest.mark.parametrize("user", DEGREES)
def test_rns_is_uniform_over_the_unobserved(user: int) -> None:
    items = unobserved(three_users(), user)
    answer = answer_of("rns", context_for(user, width=8))
    assert_frequencies(drawn_items(answer), items, np.ones(len(items)))
    np.testing.assert_allclose(answer.log_q, np.full((DRAWS, 1), -np.log(len(items))), rtol=1e-6)


@pytest.mark.parametrize("user", DEGREES)
def test_rns_has_no_negative_when_all_its_draws_are_positives(user: int) -> None:
    weights = answer_of("rns", context_for(user, width=8)).weights.numpy()
    assert_share(weights == 0, (DEGREES[user] / NUM_ITEMS) ** 8)


def ladder() -> Interactions:
    """Items 0 to 8 of popularity 4, 8, … 1,024; item 9 has none; item 10 has 2,048.

    User 0 has items 10 and 8; the others are as few as will do.
    """
    popularity = [*(2**k for k in range(2, 11)), 0, 2048]
    liked = np.zeros((2049, len(popularity)), bool)
    for item, count in enumerate(popularity):
        liked[2049 - count :, item] = True
    liked[-1, [10, 8]] = False
    liked[0, [10, 8]] = True
    return from_dense(liked)


def test_pns_draws_a_power_of_popularity_over_the_unobserved() -> None:
    train = ladder()
    items = np.arange(8)  # unobserved by user 0 and popular
    popularity = train.popularity[items]
    np.testing.assert_array_equal(popularity, 2 ** np.arange(2, 10))
    answer = answer_of("pns", context_for(0, width=1, train=train, draws=400_000), train)
    drawn = drawn_items(answer)
    assert_frequencies(drawn, items, popularity**0.75)  # item 9, popularity 0, never
    counts = np.bincount(drawn, minlength=8)[:8]
    slope = np.polyfit(np.log(popularity), np.log(counts), 1, w=np.sqrt(counts))[0]
    assert slope == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_the_log_q_of_pns_is_renormalized_over_the_unobserved(alpha: float) -> None:
    train = ladder()
    popularity = train.popularity.astype(float)
    mass = np.where(popularity > 0, popularity**alpha, 0)
    mass /= mass.sum()
    context = context_for(0, width=1, train=train, draws=1000)
    answer = answer_of(f"pns:alpha={alpha}", context, train)
    has = answer.weights.numpy()[:, 0] > 0
    items = answer.items.numpy()[has, 0]
    expected = np.log(mass[items]) - np.log(1 - mass[train.row(0)].sum())
    np.testing.assert_allclose(answer.log_q.numpy()[has, 0], expected, rtol=1e-4)
    assert np.exp(expected).max() <= 1


def test_pns_has_no_negative_when_its_eight_draws_are_positives() -> None:
    train = ladder()
    mass = train.popularity**0.75 / (train.popularity**0.75).sum()
    context = context_for(0, width=1, train=train)
    weights = answer_of("pns", context, train).weights.numpy()
    assert_share(weights == 0, mass[train.row(0)].sum() ** 8)


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


def by_hand(scores: list[float], allowed: list[bool] | None = None) -> Context:
    """A step whose every row has one pool: column c holds item c with the score given."""
    n = len(scores)
    allowed = [True] * n if allowed is None else allowed
    liked = np.zeros((1, n), bool)
    context = context_of(np.zeros(DRAWS, int), from_dense(liked), width=1)
    pool = Pool(
        items=tf.tile(tf.range(n)[None, :], [DRAWS, 1]),
        allowed=tf.tile(tf.constant([allowed]), [DRAWS, 1]),
        scores=tf.tile(tf.constant([np.where(allowed, scores, LOWEST)], tf.float32), [DRAWS, 1]),
    )
    return Context(**{**vars(context), "pool": pool})


SCORES = [0.3, -1.2, 2.0, 0.9, -0.4, 1.5]
MASKED = [True, True, False, True, False, True]
BEST_FIRST = np.array([2, 5, 3, 0, 4, 1])
BEST_ALLOWED = np.array([5, 3, 0, 1])


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


@pytest.mark.parametrize("allowed", [[True] * 6, MASKED])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_softmax_dns_draws_the_softmax_of_its_pool(temperature: float, allowed: list[bool]) -> None:
    answer = answer_of(f"softmax-dns:pool=6,temperature={temperature}", by_hand(SCORES, allowed))
    columns = np.flatnonzero(allowed)
    law = np.exp(np.array(SCORES)[columns] / temperature)
    law /= law.sum()
    drawn = drawn_items(answer)
    assert len(drawn) == DRAWS
    assert_frequencies(drawn, columns, law)
    expected = np.log(law)[np.searchsorted(columns, drawn)]
    np.testing.assert_allclose(answer.log_q.numpy()[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("allowed", [[True] * 6, MASKED])
@pytest.mark.parametrize("temperature", [1e-3, 1e-30])
def test_towards_temperature_0_softmax_dns_is_dns(temperature: float, allowed: list[bool]) -> None:
    context = by_hand(SCORES, allowed)
    cold = answer_of(f"softmax-dns:pool=6,temperature={temperature}", context)
    np.testing.assert_array_equal(cold.items, answer_of("dns:pool=6", context).items)


@pytest.mark.parametrize("temperature", ["1e6", "inf"])
def test_towards_infinite_temperature_softmax_dns_is_uniform(temperature: str) -> None:
    answer = answer_of(f"softmax-dns:pool=6,temperature={temperature}", by_hand(SCORES, MASKED))
    assert_frequencies(drawn_items(answer), np.sort(BEST_ALLOWED), np.ones(4))


@pytest.mark.parametrize("user", DEGREES)
def test_mixgcf_moves_the_item_of_dns_towards_the_positive(user: int) -> None:
    """e' = a p + (1 - a) c, hence s_p - s' = (1 - a)(s_p - s_c) for a dot product."""
    context = context_for(user, width=6, draws=2000)
    mixed, dns = (answer_of(spec, context) for spec in ("mixgcf:pool=6", "dns:pool=6"))
    np.testing.assert_array_equal(mixed.items, dns.items)
    np.testing.assert_array_equal(mixed.weights, dns.weights)
    candidate = context.embed(mixed.items).numpy()[:, 0]
    positive, moved = context.positive_embeddings.numpy(), mixed.embeddings.numpy()[:, 0]
    way = positive - candidate
    apart = (way**2).sum(1) > 1e-6  # the item may be the positive of a row: item 0 is
    a = ((moved - candidate) * way).sum(1)[apart] / (way[apart] ** 2).sum(1)
    assert ((a > -1e-5) & (a < 1 + 1e-5)).all()
    np.testing.assert_allclose(
        moved[apart], a[:, None] * positive[apart] + (1 - a[:, None]) * candidate[apart], atol=1e-5
    )
    scores = [context.score(context.user_embeddings, e).numpy()[apart]
              for e in (positive, moved, candidate)]  # fmt: skip
    np.testing.assert_allclose(scores[0] - scores[1], (1 - a) * (scores[0] - scores[2]), atol=1e-5)
    assert stats.kstest(a, "uniform").pvalue > 1e-3


def test_mixgcf_has_gradients_in_the_positive_and_in_the_item() -> None:
    model = MF(3, NUM_ITEMS, dim=4, init_scale=0.7)
    with tf.GradientTape() as tape:
        context = context_of(np.array([NOTHING]), three_users(), width=6, model=model)
        answer = answer_of("mixgcf:pool=6", context)
        total = tf.reduce_sum(answer.embeddings)
    rows = tf.convert_to_tensor(tape.gradient(total, model.item_table)).numpy()
    np.testing.assert_allclose(rows.sum(axis=0), np.ones(4), rtol=1e-5)  # a + (1 - a)
    assert np.flatnonzero(rows.any(axis=1)).tolist() == sorted({0, int(answer.items[0, 0])})

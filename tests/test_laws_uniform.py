"""Samplers that look at no score: `rns`, `pns`, `given`, against the laws of their cards."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from laws import (
    DEGREES,
    DRAWS,
    answer_of,
    assert_frequencies,
    assert_share,
    context_for,
    drawn_items,
    three_users,
    unobserved,
)
from worlds import (
    ALL_BUT_ONE,
    NEWCOMER,
    NUM_USERS,
    WHOLE_CATALOGUE,
    context_of,
    from_dense,
    toy_train,
)

from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.samplers import build_sampler
from autosample_tf.samplers.contract import Feedback
from autosample_tf.samplers.popularity import alias_table, enough_tries, power_of_popularity
from autosample_tf.samplers.uniform import Unobserved


@pytest.mark.parametrize(
    ("spec", "width"), [("rns", 1), ("rns", 32), ("rns", 45), ("rns:exact=True", 32)]
)
@pytest.mark.parametrize("user", DEGREES)
def test_rns_is_uniform_over_the_unobserved(user: int, spec: str, width: int) -> None:
    items = unobserved(three_users(), user)
    answer = answer_of(spec, context_for(user, width=width))
    assert (answer.columns is not None) == (width >= 32 and spec == "rns")  # a pool's, or not
    assert_frequencies(drawn_items(answer), items, np.ones(len(items)))
    np.testing.assert_allclose(answer.log_q, np.full((DRAWS, 1), -np.log(len(items))), rtol=1e-6)


def test_rns_has_no_negative_where_a_whole_pool_is_of_positives() -> None:
    train = toy_train()
    answer = answer_of("rns", context_for(ALL_BUT_ONE, width=32, train=train), train)
    assert_share(answer.weights.numpy() == 0, (1 - 1 / train.num_items) ** 32)


def test_rns_rows_that_share_a_pool_look_at_columns_of_their_own_first() -> None:
    """Of a user without positives, who may have any."""
    train = toy_train()
    answer = answer_of("rns", context_for(NEWCOMER, width=40, train=train, draws=100), train)
    np.testing.assert_array_equal(answer.columns[:, 0], np.arange(100) % 40)


def test_rns_takes_the_first_unobserved_item_where_its_own_is_a_positive() -> None:
    train = toy_train()
    context = context_for(ALL_BUT_ONE, width=32, train=train, draws=500)
    answer = answer_of("rns", context, train)
    allowed = context.pool.allowed.numpy()
    for row in range(500):
        order = np.append(row % 32, np.arange(32))
        expected = order[allowed[row, order]][:1].tolist() or [0]
        assert answer.columns[row].numpy().tolist() == expected
    assert 0.1 < answer.weights.numpy().mean() < 0.98


@pytest.mark.parametrize("user", range(NUM_USERS))
def test_the_exact_form_lacks_a_negative_only_where_there_is_none(user: int) -> None:
    train = toy_train()
    answer = answer_of("rns", context_for(user, width=1, train=train, draws=500), train)
    expected = 0.0 if user == WHOLE_CATALOGUE else 1.0
    np.testing.assert_array_equal(answer.weights, np.full((500, 1), expected))


@pytest.mark.parametrize("user", range(NUM_USERS))
def test_ranks_are_the_unobserved_items_in_ascending_order(user: int) -> None:
    """All ranks of users with some, all, all but one and none of the items."""
    train = toy_train()
    items = unobserved(train, user)
    assert len(items) == {WHOLE_CATALOGUE: 0, ALL_BUT_ONE: 1, NEWCOMER: 14}.get(user, len(items))
    table = Unobserved(train)
    found = table.item_of_rank(tf.fill([len(items)], user), tf.range(len(items)))
    np.testing.assert_array_equal(found, items)


@pytest.mark.parametrize(
    "liked",
    [
        np.zeros((2, 5), bool),  # no pairs at all
        np.ones((2, 5), bool),
        np.eye(5, dtype=bool),
        ~np.eye(5, dtype=bool),
        np.tri(6, 5, -1, dtype=bool),  # the first 0, 1, … 5 items
        ~np.tri(6, 5, -1, dtype=bool),  # the last 5, 4, … 0 items
    ],
)
def test_ranks_hold_for_rows_of_every_length(liked: np.ndarray) -> None:
    table = Unobserved(from_dense(liked))
    users, ranks = (~liked).nonzero()[0], np.concatenate([np.arange(n) for n in (~liked).sum(1)])
    found = table.item_of_rank(tf.constant(users, tf.int32), tf.constant(ranks, tf.int32))
    np.testing.assert_array_equal(found, (~liked).nonzero()[1])


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


def test_pns_has_no_negative_when_all_its_draws_are_positives() -> None:
    train = ladder()
    mass = train.popularity**0.75 / (train.popularity**0.75).sum()
    context = context_for(0, width=1, train=train)
    weights = answer_of("pns", context, train).weights.numpy()
    assert_share(
        weights == 0, mass[train.row(0)].sum() ** enough_tries(train, train.row_sums(mass))
    )


@pytest.mark.parametrize(
    ("masses_of_users", "expected"),
    [((0.0005,), 1), ((0.002,), 2), ((0.09,), 3), ((0.11,), 4), ((0.9,), 8), ((0.0, 0.1), 3)],
)
def test_tries_are_as_many_as_leave_one_example_in_a_thousand(
    masses_of_users: tuple[float, ...], expected: int
) -> None:
    """Each user has one item of that mass, and the last item, of all that is left, nobody's."""
    liked = np.eye(len(masses_of_users), len(masses_of_users) + 1, dtype=bool)
    mass = np.array([*masses_of_users, 1 - sum(masses_of_users)])
    train = from_dense(liked)
    assert enough_tries(train, train.row_sums(mass)) == expected


def masses() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    zipf = 1.0 / np.arange(1, 2001) ** 1.5
    return {
        "one item": np.ones(1),
        "equal": np.ones(7),
        "equal, not representable": np.ones(49_999),
        "random": rng.random(1000),
        "with zeros": rng.random(1000) * (rng.random(1000) < 0.3),
        "one of many": np.eye(1, 1000, 17)[0],
        "extreme ratios": 10.0 ** rng.uniform(-300, 0, 500),
        "two extremes and a zero": np.array([1e-300, 1.0, 0.0]),
        "zipf": rng.permutation(zipf),
    }


@pytest.mark.parametrize("name", masses())
def test_an_alias_table_holds_exactly_its_masses(name: str) -> None:
    """Column c, one of n alike, gives kept_c of its share to item c, the rest to its alias."""
    mass = masses()[name] / masses()[name].sum()
    kept, alias = alias_table(mass)
    assert ((kept >= 0) & (kept <= 1)).all()
    n = len(mass)
    shares = (kept + np.bincount(alias, weights=1 - kept, minlength=n)) / n
    np.testing.assert_allclose(shares, mass, rtol=0, atol=1e-12)
    assert (shares[mass == 0] == 0).all()  # never drawn, not even once in a while


@pytest.mark.parametrize("alpha", [0.0, 0.75, 40.0])
def test_the_mass_of_pns_is_a_power_of_popularity(alpha: float) -> None:
    """Of counts whose power overflows as well; and 0^0 is 0 here."""
    popularity = np.array([0, 3, 10, 10**9])
    expected = np.append(0.0, np.exp(alpha * (np.log(popularity[1:]) - np.log(10**9))))
    expected /= expected.sum()
    np.testing.assert_allclose(power_of_popularity(popularity, alpha), expected, rtol=1e-12)


# Users of the world of given negatives: 6 given, of them 2 train positives; none given; 2
# given, which both are train positives.
MIXED, NONE_GIVEN, ALL_POSITIVE = 0, 1, 2


def given_world() -> tuple[Interactions, Interactions]:
    liked, given = np.zeros((3, 10), bool), np.zeros((3, 10), bool)
    given[MIXED, [1, 2, 4, 5, 7, 8]] = True
    liked[MIXED, [0, 2, 7]] = True
    liked[NONE_GIVEN, [1, 2]] = True
    liked[ALL_POSITIVE, [3, 4]] = given[ALL_POSITIVE, [3, 4]] = True
    return from_dense(liked), from_dense(given)


def test_given_is_uniform_over_the_given_that_are_no_positives() -> None:
    train, given = given_world()
    answer = answer_of("given", context_for(MIXED, width=1, train=train), train, given)
    assert_frequencies(drawn_items(answer), np.array([1, 4, 5, 8]), np.ones(4))
    has = answer.weights.numpy()[:, 0] > 0
    np.testing.assert_allclose(answer.log_q.numpy()[has], -np.log(4), rtol=1e-6)


def test_given_tries_four_times() -> None:
    """A third of what is given to the user are positives: none is left with (1/3)^4."""
    train, given = given_world()
    answer = answer_of("given", context_for(MIXED, width=1, train=train), train, given)
    assert_share(answer.weights.numpy() == 0, (2 / 6) ** 4)


@pytest.mark.parametrize("user", [NONE_GIVEN, ALL_POSITIVE])
def test_without_given_negatives_there_is_none(user: int) -> None:
    train, given = given_world()
    answer = answer_of("given", context_for(user, width=1, train=train, draws=500), train, given)
    np.testing.assert_array_equal(answer.weights, np.zeros((500, 1)))
    assert np.isfinite(answer.log_q).all()


def test_given_negatives_are_those_of_the_rows_user() -> None:
    train, given = given_world()
    users = np.array([NONE_GIVEN, MIXED, ALL_POSITIVE, MIXED] * 50)
    answer = answer_of("given", context_of(users, train, width=1), train, given)
    np.testing.assert_array_equal(answer.weights.numpy()[users != MIXED], 0)
    assert np.isin(drawn_items(answer), [1, 4, 5, 8]).all()


@pytest.mark.parametrize("given", [None, from_dense(np.zeros((3, 20), bool))])
def test_data_without_given_negatives_are_refused(given: Interactions | None) -> None:
    with pytest.raises(InputError, match=r"given negatives for the sampler 'given'.*--label"):
        build_sampler("given").build(Feedback(three_users(), given), 4)

"""Training batches: every pair once an epoch, in an order that only seed and epoch decide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.pipeline import steps_per_epoch, training_batches

Batch = dict[str, np.ndarray]

NUM_USERS, NUM_ITEMS = 30, 40
# (pairs, rows of a batch): whole batches, a padded last one, one short of and one beyond a
# batch, a single batch, a batch larger than all pairs, batches of one, a single pair.
SIZES = [(60, 20), (60, 16), (47, 16), (33, 16), (16, 16), (10, 64), (7, 1), (1, 1), (1, 4)]


def some_pairs(num_pairs: int) -> Interactions:
    keys = np.random.default_rng(0).choice(NUM_USERS * NUM_ITEMS, num_pairs, replace=False)
    return numbered(keys, NUM_USERS, NUM_ITEMS)


def numbered(keys: np.ndarray, num_users: int, num_items: int) -> Interactions:
    users, items = np.divmod(keys, num_items)
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


def one_user(num_pairs: int) -> Interactions:
    """The item of a pair is the pair's own index."""
    return numbered(np.arange(num_pairs), 1, num_pairs)


def batches(dataset: tf.data.Dataset, count: int) -> list[Batch]:
    return list(dataset.take(count).as_numpy_iterator())


def epochs(dataset: tf.data.Dataset, num_pairs: int, batch_size: int) -> Iterator[Batch]:
    """One epoch after the other, its batches joined."""
    steps = steps_per_epoch(num_pairs, batch_size)
    iterator = dataset.as_numpy_iterator()
    while True:
        epoch = list(itertools.islice(iterator, steps))
        yield {name: np.concatenate([batch[name] for batch in epoch]) for name in epoch[0]}


def orders(dataset: tf.data.Dataset, num_pairs: int, count: int) -> np.ndarray:
    """[count, num_pairs]: the pairs in each epoch's order, of `one_user` data in one batch."""
    return np.stack([batch["positive"][:num_pairs] for batch in batches(dataset, count)])


def real_pairs(epoch: Batch) -> list[tuple[int, int]]:
    real = epoch["weight"] > 0
    pairs = zip(epoch["user"][real].tolist(), epoch["positive"][real].tolist(), strict=True)
    return list(pairs)


def assert_equal_batches(first: list[Batch], second: list[Batch]) -> None:
    for one, other in zip(first, second, strict=True):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(
    ("num_pairs", "batch_size", "steps"), [(60, 20, 3), (61, 20, 4), (59, 20, 3), (1, 20, 1)]
)
def test_an_epoch_has_as_many_steps_as_hold_all_pairs(
    num_pairs: int, batch_size: int, steps: int
) -> None:
    assert steps_per_epoch(num_pairs, batch_size) == steps


@pytest.mark.parametrize(("num_pairs", "batch_size"), SIZES)
def test_every_epoch_has_every_pair_once(num_pairs: int, batch_size: int) -> None:
    pairs = some_pairs(num_pairs)
    expected = sorted(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))
    dataset = training_batches(pairs, batch_size, seed=3)
    for epoch in itertools.islice(epochs(dataset, num_pairs, batch_size), 4):
        assert sorted(real_pairs(epoch)) == expected


@pytest.mark.parametrize(("num_pairs", "batch_size"), SIZES)
def test_padding_weighs_nothing_and_weights_sum_to_the_batch(
    num_pairs: int, batch_size: int
) -> None:
    steps = steps_per_epoch(num_pairs, batch_size)
    for step, batch in enumerate(
        batches(training_batches(some_pairs(num_pairs), batch_size, seed=0), 2 * steps)
    ):
        real = num_pairs - (steps - 1) * batch_size if step % steps == steps - 1 else batch_size
        expected = [batch_size / real] * real + [0.0] * (batch_size - real)
        np.testing.assert_allclose(batch["weight"], expected, rtol=1e-6)
        assert batch["weight"].sum() == pytest.approx(batch_size, rel=1e-6)
        if real == batch_size:
            assert (batch["weight"] == 1.0).all()


def test_padding_is_made_of_pairs_that_exist() -> None:
    pairs = some_pairs(10)
    batch = batches(training_batches(pairs, 64, seed=0), 1)[0]
    assert pairs.contains(batch["user"], batch["positive"]).all()


def test_the_weighted_mean_is_the_mean_over_the_real_pairs() -> None:
    # Items are the pairs' indices: over the real ones of an epoch they have mean 12 / 2.
    batch = batches(training_batches(one_user(13), 32, seed=0), 1)[0]
    assert np.mean(batch["weight"] * batch["positive"]) == pytest.approx(6.0, rel=1e-6)


def test_shapes_are_static() -> None:
    dataset = training_batches(some_pairs(47), 16, seed=0)
    assert dataset.element_spec == {
        "user": tf.TensorSpec([16], tf.int32),
        "positive": tf.TensorSpec([16], tf.int32),
        "weight": tf.TensorSpec([16], tf.float32),
        "position": tf.TensorSpec([16], tf.int64),
    }


def test_batches_never_end() -> None:
    dataset = training_batches(some_pairs(47), 16, seed=0)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize("first_epoch", [0, 5])
def test_position_counts_the_rows_of_all_padded_batches(first_epoch: int) -> None:
    dataset = training_batches(some_pairs(47), 16, seed=0, first_epoch=first_epoch)
    positions = np.concatenate([batch["position"] for batch in batches(dataset, 7)])
    np.testing.assert_array_equal(positions, first_epoch * 3 * 16 + np.arange(7 * 16))


@pytest.mark.parametrize("first_epoch", [1, 2, 7])
@pytest.mark.parametrize(("num_pairs", "batch_size"), [(47, 16), (60, 20), (10, 64)])
def test_to_begin_at_an_epoch_is_to_skip_those_before(
    num_pairs: int, batch_size: int, first_epoch: int
) -> None:
    pairs, steps = some_pairs(num_pairs), steps_per_epoch(num_pairs, batch_size)
    whole = training_batches(pairs, batch_size, seed=1)
    later = training_batches(pairs, batch_size, seed=1, first_epoch=first_epoch)
    assert_equal_batches(batches(later, 5), batches(whole.skip(first_epoch * steps), 5))


def test_equal_seeds_give_equal_batches() -> None:
    first, second = (training_batches(some_pairs(47), 16, seed=9) for _ in range(2))
    assert_equal_batches(batches(first, 9), batches(second, 9))
    assert_equal_batches(batches(first, 9), batches(first, 9))  # a second pass begins anew


def test_all_epochs_are_ordered_differently() -> None:
    # The 500 epochs of 200 pairs: chance alone repeats none of 200! orders.
    found = orders(training_batches(one_user(200), 200, seed=0), 200, 500)
    assert len(np.unique(found, axis=0)) == 500
    assert (np.sort(found, axis=1) == np.arange(200)).all()


@pytest.mark.parametrize("difference", [1, 2, 2**8, 2**10, 2**16, 2**20, 2**31])
def test_another_seed_gives_another_order(difference: int) -> None:
    first, second = (
        orders(training_batches(one_user(500), 500, seed=seed), 500, 1)
        for seed in (7, 7 + difference)
    )
    # Two independent permutations agree in one place on average.
    assert (first == second).sum() < 10


@pytest.mark.parametrize("difference", [1, 2**8, 2**10, 2**16])
def test_distant_epochs_are_ordered_differently_too(difference: int) -> None:
    first, second = (
        orders(training_batches(one_user(500), 500, seed=7, first_epoch=epoch), 500, 1)
        for epoch in (3, 3 + difference)
    )
    assert (first == second).sum() < 10


def test_the_next_seed_is_not_the_next_epoch() -> None:
    next_seed, next_epoch = (
        orders(training_batches(one_user(500), 500, seed=seed, first_epoch=epoch), 500, 1)
        for seed, epoch in ((8, 3), (7, 4))
    )
    assert (next_seed == next_epoch).sum() < 10


@pytest.mark.parametrize("other", [{"seed": 1}, {"first_epoch": 1}])
def test_who_shared_a_batch_is_not_likelier_to_share_one_again(other: dict[str, int]) -> None:
    # 4,096 pairs in 64 batches of 64. Two rows of a batch share one in another epoch with
    # probability 63 / 4095; over 64 * (64 * 63 / 2) couples that is 1,985, and the standard
    # deviation under 45. Six of those are 14 %.
    def batch_of_each_pair(**options: int) -> np.ndarray:
        dataset = training_batches(one_user(4096), 64, **{"seed": 0, **options})
        order = np.concatenate([batch["positive"] for batch in batches(dataset, 64)])
        return np.argsort(order) // 64

    together = np.zeros((64, 64))
    np.add.at(together, (batch_of_each_pair(), batch_of_each_pair(**other)), 1)
    couples = (together * (together - 1) / 2).sum()
    assert couples == pytest.approx(64 * (64 * 63 / 2) * 63 / 4095, rel=0.14)


@pytest.fixture(scope="module")
def places_of_a_large_epoch() -> np.ndarray:
    """[600,000]: where in the epoch's order each pair stands."""
    dataset = training_batches(one_user(600_000), 2048, seed=0)
    steps = steps_per_epoch(600_000, 2048)
    order = np.concatenate([batch["positive"] for batch in batches(dataset, steps)])
    return np.argsort(order[:600_000])


@pytest.mark.parametrize("lag", [1, 2, 4, 8, 16, 64, 256])
def test_neighbours_in_the_data_are_not_likelier_to_share_a_batch(
    places_of_a_large_epoch: np.ndarray, lag: int
) -> None:
    # Data is sorted by user: a shuffle that keeps some distances would fill batches with
    # few users. Of the pairs `lag` apart in 600,000, in batches of 2,048, a share of
    # 2047 / 599999 meets, which is 2,047 of them, with a deviation of 45: six are 13 %.
    batch = places_of_a_large_epoch // 2048
    assert (batch[lag:] == batch[:-lag]).sum() == pytest.approx(2047, rel=0.14)


@pytest.mark.parametrize("num_pairs", [10, 1000])
def test_over_epochs_a_pair_is_at_every_place_equally_often(num_pairs: int) -> None:
    # 1,000 epochs, 10 bins of places: chi-square with 9 degrees of freedom exceeds 38 with
    # probability 2e-5, so that one seed in 10,000 would fail on one of the five pairs.
    found = orders(training_batches(one_user(num_pairs), num_pairs, seed=1), num_pairs, 1000)
    for pair in (0, num_pairs // 10, num_pairs // 3, num_pairs // 2, num_pairs - 1):
        places = np.argmax(found == pair, axis=1) * 10 // num_pairs
        counts = np.bincount(places, minlength=10)
        assert np.sum((counts - 100) ** 2 / 100) < 38


def test_over_seeds_every_pair_is_at_every_place_equally_often() -> None:
    # How often each of 4 pairs is at each of 4 places in 24 seeds' first epochs: 16 counts
    # of mean 6 and variance 6 * 3 / 4. The sum of (count - 6)^2 / 6 has mean 12 and, with
    # (4 - 1)^2 degrees of freedom, deviation sqrt(2 * 9) * 4 / 3 = 5.7; six are 34.
    pairs, counts = one_user(4), np.zeros((4, 4))
    for seed in range(24):
        counts[orders(training_batches(pairs, 4, seed=seed), 4, 1)[0], np.arange(4)] += 1
    assert np.sum((counts - 6) ** 2 / 6) < 12 + 34

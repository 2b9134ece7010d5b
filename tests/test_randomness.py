"""Draws: ranges, what they depend on, and that replicas draw the whole batch's numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.ops.randomness import Draws

BATCH, N = 8, 500


def draws(*, seed: int = 0, step: int = 0, batch: int = BATCH) -> Draws:
    positions = tf.range(step * batch, (step + 1) * batch, dtype=tf.int64)
    return Draws(seed, positions, batch)


def uniform(given: Draws, stream: str = "a") -> np.ndarray:
    return given.uniform(stream, N).numpy()


def integers(given: Draws, stream: str = "a") -> np.ndarray:
    return given.integers(stream, N, 10**6).numpy()


def shared_integers(given: Draws, stream: str = "a") -> np.ndarray:
    return given.shared_integers(stream, N, 10**6).numpy()


KINDS = pytest.mark.parametrize("kind", [uniform, integers, shared_integers])
Kind = Callable[..., np.ndarray]


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_uniform_numbers_fill_the_half_open_unit_interval(dtype: tf.DType) -> None:
    drawn = draws(batch=100).uniform("a", 1000, dtype)
    assert (drawn.shape, drawn.dtype) == ((100, 1000), dtype)
    assert drawn.numpy().min() >= 0.0
    assert drawn.numpy().max() < 1.0
    # The mean of 10^5 has deviation 1 / sqrt(12 * 10^5) = 0.0009; a tenth is 10^4 of them,
    # give or take 95.
    assert drawn.numpy().mean() == pytest.approx(0.5, abs=6 * 0.0009)
    counts = np.bincount((drawn.numpy().ravel() * 10).astype(int), minlength=10)
    np.testing.assert_allclose(counts, 10_000, atol=6 * 95)


@pytest.mark.parametrize("below", [1, 2, 7, 1000])
def test_integers_are_equally_often_each_of_those_below_the_bound(below: int) -> None:
    drawn = draws(batch=100).integers("a", 1000, below)
    assert (drawn.shape, drawn.dtype) == ((100, 1000), tf.int32)
    counts = np.bincount(drawn.numpy().ravel(), minlength=below)
    assert len(counts) == below
    mean = 100_000 / below
    np.testing.assert_allclose(counts, mean, atol=6 * mean**0.5)


def test_integers_reach_the_largest_bound() -> None:
    drawn = draws(batch=100).integers("a", 100, 2**31 - 1).numpy()
    assert drawn.min() >= 0
    assert drawn.max() > 0.99 * 2**31


@pytest.mark.parametrize("below", [1, 5])
def test_shared_integers_are_one_row_in_range(below: int) -> None:
    drawn = draws().shared_integers("a", 5000, below)
    assert (drawn.shape, drawn.dtype) == ((5000,), tf.int32)
    counts = np.bincount(drawn.numpy(), minlength=below)
    np.testing.assert_allclose(counts, 5000 / below, atol=6 * (5000 / below) ** 0.5)
    assert len(counts) == below


@KINDS
def test_equal_seeds_steps_and_streams_give_equal_numbers(kind: Kind) -> None:
    np.testing.assert_array_equal(kind(draws(seed=3, step=5)), kind(draws(seed=3, step=5)))


@KINDS
def test_a_graph_draws_what_eager_mode_draws(kind: Kind) -> None:
    @tf.function
    def graph(positions: tf.Tensor) -> tf.Tensor:
        given = Draws(3, positions, BATCH)
        if kind is uniform:
            return given.uniform("a", N)
        method = given.integers if kind is integers else given.shared_integers
        return method("a", N, 10**6)

    given = draws(seed=3, step=5)
    np.testing.assert_array_equal(graph(given.positions), kind(given))


@KINDS
@pytest.mark.parametrize(
    "other",
    [
        lambda kind: kind(draws(), "b"),
        lambda kind: kind(draws(), ""),
        lambda kind: kind(draws(step=1)),
        lambda kind: kind(draws(step=2**33)),
        lambda kind: kind(draws(seed=1)),
        lambda kind: kind(draws(seed=2**31)),
    ],
    ids=["stream", "empty stream", "next step", "far step", "next seed", "far seed"],
)
def test_another_stream_step_or_seed_gives_unrelated_numbers(kind: Kind, other: Callable) -> None:
    first, second = kind(draws()).ravel(), other(kind).ravel()
    assert np.mean(first == second) < 0.01
    # The correlation of m independent couples has deviation 1 / sqrt(m).
    assert abs(np.corrcoef(first, second)[0, 1]) < 6 / len(first) ** 0.5


@pytest.mark.parametrize("kind", [uniform, integers])
def test_rows_are_unrelated(kind: Kind) -> None:
    correlations = np.corrcoef(kind(draws(batch=20)))
    np.fill_diagonal(correlations, 0.0)
    assert np.abs(correlations).max() < 6 / N**0.5


def test_streams_step_and_seed_are_told_apart_together() -> None:
    """A hundred combinations, a hundred different first rows: no sum or product of them."""
    rows = {
        uniform(draws(seed=seed, step=step), stream)[0].tobytes()
        for seed in range(5)
        for step in range(5)
        for stream in ("a", "b", "pool", "mixgcf:a")
    }
    assert len(rows) == 100


@KINDS
def test_no_seed_turns_one_stream_into_another(kind: Kind) -> None:
    """Streams are told apart by their CRC: a seed xor-ed onto it would be such a seed."""
    seed = zlib.crc32(b"a") ^ zlib.crc32(b"b")
    assert np.mean(kind(draws(seed=seed), "a") == kind(draws(), "b")) < 0.01


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1])
def test_any_seed_will_do(seed: int) -> None:
    drawn = uniform(draws(seed=seed))
    assert np.isfinite(drawn).all()
    assert len(np.unique(drawn)) > 0.99 * drawn.size


SPLITS = [
    [[0, 1, 2, 3], [4, 5, 6, 7]],
    [[0, 1], [2, 3], [4, 5], [6, 7]],
    [[0, 2, 4, 6], [1, 3, 5, 7]],
    [[0, 1, 2, 3, 4], [5, 6, 7]],
    [[row] for row in range(BATCH)],
]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("step", [0, 3, 2**40])
@pytest.mark.parametrize("kind", [uniform, integers])
def test_replicas_draw_the_rows_of_the_whole_batch(
    kind: Kind, step: int, split: list[list[int]]
) -> None:
    whole = draws(seed=11, step=step)
    expected = kind(whole)
    for rows in split:
        replica = Draws(11, tf.gather(whole.positions, rows), BATCH)
        np.testing.assert_array_equal(kind(replica), expected[rows])


@pytest.mark.parametrize("split", SPLITS)
def test_replicas_share_the_shared_numbers(split: list[list[int]]) -> None:
    whole = draws(seed=11, step=3)
    for rows in split:
        replica = Draws(11, tf.gather(whole.positions, rows), BATCH)
        np.testing.assert_array_equal(shared_integers(replica), shared_integers(whole))


def test_integers_below_a_large_bound_are_equally_often_in_each_part_of_it() -> None:
    """Of 32 bits alone the first third of these would come half as often again as another."""
    below = 3 * 2**29
    drawn = draws(batch=1 << 16).integers("large", 8, below).numpy()
    thirds = np.bincount(drawn.ravel() // 2**29, minlength=3) / drawn.size
    np.testing.assert_allclose(thirds, 1 / 3, atol=4 / np.sqrt(drawn.size) / 2)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.99999, 1 - 2**-30])
def test_chances_are_what_is_asked(probability: float) -> None:
    found = draws().shared_chances("chance", [1 << 16], probability).numpy().mean()
    assert abs(found - probability) < 4 * 0.5 / 2**8

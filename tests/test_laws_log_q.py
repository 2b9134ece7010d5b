"""What samplers draw with which log q, and that it corrects what drawing bends.

The law of all that know their q: the mean over an example's negatives of exp(s_j) / q(j), as the
loss has it, is in expectation the sum of exp(s_j) over the user's unobserved items, the partition
function of a softmax. Batches are drawn in proportion to popularity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from laws import assert_frequencies, standard_errors
from worlds import from_dense

from autosample_tf.interactions import Interactions
from autosample_tf.losses import build_loss
from autosample_tf.losses.pairwise import BPR
from autosample_tf.models import MF
from autosample_tf.ops.membership import PairSet
from autosample_tf.ops.randomness import Draws
from autosample_tf.samplers import SAMPLERS, build_sampler
from autosample_tf.samplers.contract import Feedback
from autosample_tf.step.pool import Step, make_context

POPULARITY = np.array([40, 25, 12, 12, 6, 3, 1, 1, 0])  # of 9 items; the last has no pair
SHARES = POPULARITY / POPULARITY.sum()
MINE = [1, 4, 6]  # user 0's, whose are all examples here
DIFFERENT = [8, 7, 6, 3, 2, 0]  # positives of six rows, by which to tell the rows apart


def popular_world() -> Interactions:
    """`POPULARITY`, user 0 having `MINE`."""
    liked = np.zeros((41, 9), bool)
    for item, count in enumerate(POPULARITY):
        liked[1 : 1 + count, item] = True
    for item in MINE:
        liked[[0, POPULARITY[item]], item] = True, False
    train = from_dense(liked)
    np.testing.assert_array_equal(train.popularity, POPULARITY)
    return train


def given_negatives() -> Interactions:
    """Of user 0: four items, one of which is `MINE`."""
    given = np.zeros((41, 9), bool)
    given[0, [0, 4, 7, 8]] = True
    return from_dense(given)


def model() -> MF:
    return MF(41, 9, dim=4, init_scale=0.7)


def draw(
    spec: str, positives: np.ndarray, weights: Sequence[float] | None = None
) -> tuple[np.ndarray, ...]:
    """Items, weights and log q [steps, rows, n] of batches in which user 0 has positives
    [steps, rows], which weigh [rows], in each step alike."""
    train, own = popular_world(), model()
    rows = positives.shape[1]
    example_weights = tf.ones([rows]) if weights is None else tf.constant(weights)
    sampler, pairs = build_sampler(spec), PairSet(train)
    sampler.build(Feedback(train, given_negatives()), 4)

    def draw_step(given: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        positives, step = given
        users = tf.zeros([rows], tf.int32)
        batch = {"user": users, "positive": positives, "weight": example_weights}
        positions = step * rows + tf.range(rows, dtype=tf.int64)
        told = Step(pairs, Draws(0, positions, rows), tf.constant(0.0), BPR())
        context, _ = make_context(own, own.propagate(), batch, told, max(sampler.pool, 1))
        answer = sampler.sample(context)
        return answer.items, answer.weights, answer.log_q

    @tf.function  # one call for all steps
    def draw_all() -> tuple[tf.Tensor, ...]:
        given = tf.constant(positives, tf.int32), tf.range(len(positives), dtype=tf.int64)
        types = (tf.int32, tf.float32, tf.float32)
        return tf.map_fn(draw_step, given, fn_output_signature=types)

    return tuple(x.numpy() for x in draw_all())


def steps_of(positives: Sequence[int], steps: int = 20) -> np.ndarray:
    return np.tile(positives, (steps, 1))


@pytest.mark.parametrize("n", [1, 3, 5, 50])
def test_the_others_of_a_row_are_different_rows_of_the_batch(n: int) -> None:
    """n of six rows, or all 5 others where n is more; never the row itself."""
    items, _, _ = draw(f"in-batch:n={n}", steps_of(DIFFERENT))
    assert items.shape == (20, 6, min(n, 5))
    for batch in items.tolist():
        for own, others in zip(DIFFERENT, batch, strict=True):
            assert len(set(others)) == len(others)
            assert set(others) <= set(DIFFERENT) - {own}


def test_over_the_steps_every_other_row_is_as_likely() -> None:
    items = draw("in-batch:n=2", steps_of(DIFFERENT, 1500))[0][:, 2]  # of row 2, item 6
    for column in range(2):
        assert_frequencies(items[:, column], np.array([8, 7, 3, 2, 0]), np.ones(5))


@pytest.mark.parametrize("spec", ["in-batch:n=4", "mns:batch=4,uniform=3"])
def test_padding_and_own_positives_are_masked(spec: str) -> None:
    """Rows 1 and 4, of items 7 and 2, are padding; item 6 is the user's own. Of an `mns`
    the uniform columns may hold items 7 and 2 as well."""
    items, weights, _ = draw(spec, steps_of(DIFFERENT, 5), [1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    allowed = ~np.isin(items, MINE)
    allowed[..., :4] &= ~np.isin(items[..., :4], [7, 2])
    expected = allowed / np.maximum(allowed.sum(axis=-1, keepdims=True), 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert not allowed.all(axis=(1, 2)).any()


def test_an_accidental_hit_is_masked_wherever_it_comes_from() -> None:
    """All examples have the same positive, which is the user's: there is no negative."""
    items, weights, _ = draw("in-batch:n=3", steps_of([4] * 5))
    np.testing.assert_array_equal(items, np.full((20, 5, 3), 4))
    np.testing.assert_array_equal(weights, np.zeros((20, 5, 3)))


def test_the_q_of_in_batch_is_the_share_of_what_the_user_has_not_seen() -> None:
    """Of the 68 train pairs with other items than the user's; item 7's, 1, is not clipped."""
    items, _, log_q = draw("in-batch:n=4", steps_of([7, 5, 3, 2, 0]))
    np.testing.assert_allclose(log_q, np.log(SHARES[items] / 0.68), rtol=1e-5)
    assert np.exp(log_q).min() == pytest.approx(1 / 68, rel=1e-5)


@pytest.mark.parametrize(("rows", "batch"), [(6, 3), (3, 2), (2, 1)])
def test_the_q_of_mns_is_the_mixture_of_both(rows: int, batch: int) -> None:
    """(B pop_j + B' / 6) / (B + B') in columns of either kind, B and B' being how many of its 3,
    or what others there are, and of its 2 are not masked; of item 8, which has no pair, as well."""
    mine = np.isin(np.arange(9), MINE)
    popular, unpopular = np.where(mine, 0.0, SHARES / 0.68), np.where(mine, 0.0, 1 / 6)
    positives = steps_of([5, *DIFFERENT[1:rows]])
    items, weights, log_q = draw("mns:batch=3,uniform=2", positives)
    assert items.shape == (20, rows, batch + 2)
    used = weights > 0
    of_batch, uniform = (x.sum(axis=-1, keepdims=True) for x in np.split(used, [batch], axis=-1))
    total = np.maximum(of_batch + uniform, 1)
    q = (of_batch * popular[items] + uniform * unpopular[items]) / total
    np.testing.assert_allclose(log_q[used], np.log(q[used]), rtol=1e-5)
    assert len({tuple(row) for row in used.reshape(-1, batch + 2).tolist()}) > 1


def test_a_batch_of_one_has_no_others() -> None:
    items, weights, log_q = draw("in-batch:n=4", steps_of([0], 1))
    assert items.shape == weights.shape == log_q.shape == (1, 1, 0)
    items, weights, log_q = draw("mns:batch=4,uniform=3", steps_of([0]))
    np.testing.assert_array_equal(weights > 0, ~np.isin(items, MINE))
    np.testing.assert_allclose(log_q[weights > 0], -np.log(6), rtol=1e-6)


def exponentials() -> np.ndarray:
    """[9]: exp of user 0's scores."""
    own = model()
    return np.exp(own.item_table.numpy().astype(float) @ own.user_table.numpy()[0])


def estimates(spec: str, other_q: np.ndarray | None = None) -> np.ndarray:
    """[1000]: of independent batches of 16, the mean of what examples with a negative take for
    the sum of `exponentials`, as the loss does; with another q [9] if one is given."""
    positives = np.random.default_rng(0).choice(9, (1000, 16), p=SHARES)
    found = draw(spec, positives)
    items, weights, log_q = (each.reshape(16_000, -1) for each in found)
    log_q = log_q if other_q is None else np.log(other_q[items]).astype(np.float32)
    scores = np.log(exponentials())[items].astype(np.float32)
    own = np.ones((items.shape[1], 1), np.float32)
    loss = build_loss("sampled-softmax:log_q=True")
    losses = loss.of_samplers(tf.zeros(len(items)), scores, tf.constant(weights), own, log_q)
    sums = np.where(weights.any(axis=1), np.expm1(losses.numpy()[:, 0].astype(float)), np.nan)
    return np.nanmean(sums.reshape(1000, 16), axis=1)


NOT_MINE = np.setdiff1d(np.arange(9), MINE)
KNOWING_Q = {  # what each of them can draw for user 0
    "rns": NOT_MINE,
    "rns:exact=True": NOT_MINE,
    "pns": NOT_MINE[:-1],
    "in-batch:n=5": NOT_MINE[:-1],
    "mns:batch=2,uniform=6": NOT_MINE,
    "mns:batch=6,uniform=2": NOT_MINE,
    "mns:batch=3,uniform=3": NOT_MINE,
    "softmax-dns:pool=4": NOT_MINE,
    "softmax-dns:pool=9,relative=True": NOT_MINE,
    "kbgan:pool=4,dim=2": NOT_MINE,
    "irgan:dim=2": NOT_MINE,
    "given": np.array([0, 7, 8]),
}


def test_all_that_know_their_q_are_here() -> None:
    names = {spec.partition(":")[0] for spec in KNOWING_Q}
    assert names == {name for name, own in SAMPLERS.items() if own.knows_log_q}


@pytest.mark.parametrize("spec", KNOWING_Q)
def test_the_corrected_sum_is_that_over_all_that_can_be_drawn(spec: str) -> None:
    expected = exponentials()[KNOWING_Q[spec]].sum()
    assert standard_errors(estimates(spec), expected) < 3.5


def test_with_another_q_it_is_not() -> None:
    """Of `in-batch` with an item's share of all pairs, or equal ones; of `mns` with the parts the
    wrong way round."""
    in_batch = exponentials()[NOT_MINE[:-1]].sum()
    for wrong in (np.maximum(SHARES, 1e-9), np.full(9, 1 / 8)):
        assert standard_errors(estimates("in-batch:n=5", wrong), in_batch) > 10
    popular = np.where(np.isin(np.arange(9), MINE), 0.0, SHARES) / 0.68
    mns = estimates("mns:batch=2,uniform=6", (6 * popular + 2 / 6) / 8)
    assert standard_errors(mns, exponentials()[NOT_MINE].sum()) > 10

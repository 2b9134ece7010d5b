"""The shared pool, and that a negative counts alike whichever way it is looked up."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from worlds import (
    ALL_BUT_ONE,
    NUM_ITEMS,
    WHOLE_CATALOGUE,
    Batch,
    make_batch,
    small_specs,
    to_dense,
    toy_feedback,
    toy_model,
    toy_train,
)

from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.losses.pairwise import BPR
from autosample_tf.samplers import Context, Negatives, Sampler
from autosample_tf.step.sampled_losses import (
    column_losses,
    mean_penalty,
    negative_scores,
    sampler_losses,
)
from autosample_tf.step.sampling import SampledBatch

ROWS = 8


def batch() -> Batch:
    users = [0, 1, 2, WHOLE_CATALOGUE, 4, ALL_BUT_ONE, 0, 1]
    positives = [int(toy_train().row(user)[0]) for user in users]
    return make_batch(users, positives)


def sampled(samplers: list[str], users_per_pool: int, kind: str = "mf") -> tuple:
    """The model and its batch."""
    feedback = toy_feedback()
    autosample = AutoSample(
        toy_model(kind), feedback.train, samplers=samplers, objective="uniform",
        given=feedback.given, users_per_pool=users_per_pool,
    )  # fmt: skip
    return autosample.model, autosample.sample(batch())


@pytest.mark.parametrize(("asked", "rows"), [(1, 1), (2, 2), (4, 4), (16, 8), (6, 2), (3, 1)])
def test_a_block_is_as_many_rows_as_the_batch_can_be_cut_into(asked: int, rows: int) -> None:
    _, drawn = sampled(["dns:pool=6"], asked)
    items = drawn.context.pool.items.numpy()
    assert drawn.blocks.rows == rows
    blocks = items.reshape(ROWS // rows, rows, 6)
    assert (blocks == blocks[:, :1]).all()
    assert len(np.unique(blocks[:, 0], axis=0)) == ROWS // rows
    np.testing.assert_array_equal(drawn.blocks.items, blocks[:, 0])


@pytest.mark.parametrize("users_per_pool", [1, 4])
@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_every_row_has_its_own_scores_and_masks(kind: str, users_per_pool: int) -> None:
    _, drawn = sampled(["dns:pool=6"], users_per_pool, kind)
    pool, users = drawn.context.pool, batch()["user"].numpy()
    allowed = ~to_dense(toy_train())[users[:, None], pool.items.numpy()]
    np.testing.assert_array_equal(pool.allowed, allowed)
    each = drawn.context.embed(pool.items).numpy()
    scores = np.einsum("bd,bnd->bn", drawn.context.user_embeddings.numpy(), each)
    np.testing.assert_allclose(pool.scores.numpy()[allowed], scores[allowed], atol=1e-5)
    assert not (pool.scores.numpy()[~allowed] > -1e30).any()


def test_items_are_taken_from_the_pool_where_that_is_fewer_rows() -> None:
    """One negative of 6 candidates an example: 8 look-ups, or the 2 x 6 items of two blocks."""
    _, one = sampled(["dns:pool=6"], 4)
    assert (one.places.shape[1], one.looked_up.shape[1]) == (0, 1)
    _, two = sampled(["dns:pool=6", "dns:pool=5"], 4)
    assert (two.places.shape[1], two.looked_up.shape[1]) == (2, 0)
    _, unshared = sampled(["dns:pool=6", "dns:pool=5"], 1)
    assert (unshared.places.shape[1], unshared.looked_up.shape[1]) == (0, 2)


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_columns_stand_for_the_answers_in_their_samplers_order(kind: str) -> None:
    _, drawn = sampled(small_specs(), 4, kind)
    assert min(drawn.places.shape[1], drawn.looked_up.shape[1], drawn.synthesized.shape[1]) > 0
    columns = drawn.columns()
    for k, answer in enumerate(drawn.negatives):
        own = np.flatnonzero(columns.owners[:, k])
        np.testing.assert_array_equal(columns.items.numpy()[:, own], answer.items)
        np.testing.assert_array_equal(columns.weights.numpy()[:, own], answer.weights)
        expected = answer.embeddings
        if expected is None:
            expected = drawn.context.embed(answer.items)
        np.testing.assert_allclose(columns.embeddings.numpy()[:, own], expected, atol=1e-6)


def loss_and_gradient(kind: str, users_per_pool: int, by_columns: bool) -> list[np.ndarray]:
    feedback = toy_feedback()
    autosample = AutoSample(
        toy_model(kind), feedback.train, samplers=small_specs(), objective="uniform",
        given=feedback.given, users_per_pool=users_per_pool,
    )  # fmt: skip
    model = autosample.model
    with tf.GradientTape() as tape:
        drawn: SampledBatch = autosample.sample(batch())
        context = drawn.context
        if by_columns:
            columns = drawn.columns()
            losses = column_losses(model, columns, BPR())
        else:
            positive = model.score(context.user_embeddings, context.positive_embeddings)
            losses = sampler_losses(drawn, positive, negative_scores(drawn), BPR())
        uneven = drawn.weights * tf.linspace(1.0, 9.0, drawn.weights.shape[1])
        penalty = mean_penalty(model, drawn, uneven, tf.linspace(0.5, 2.0, ROWS))
        total = tf.reduce_sum(losses * tf.linspace(1.0, 3.0, losses.shape[1])) + penalty
    gradients = tape.gradient(total, model.trainable_variables)
    return [losses.numpy(), total.numpy(), *(tf.convert_to_tensor(g).numpy() for g in gradients)]


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_scores_of_the_pool_and_copied_columns_give_one_loss_and_gradient(kind: str) -> None:
    by_pool, by_columns = (loss_and_gradient(kind, 4, each) for each in (False, True))
    for one, other in zip(by_pool, by_columns, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_every_stride_th_row() -> None:
    _, drawn = sampled(small_specs(), 4)
    whole, some = drawn.columns(), drawn.columns(stride=3)
    for name in ("users", "user_embeddings", "items", "embeddings", "weights", "scale"):
        expected = getattr(whole, name).numpy()[::3]
        np.testing.assert_array_equal(getattr(some, name), expected, err_msg=name)


def test_the_items_of_a_pool_are_uniform_over_the_catalogue() -> None:
    autosample = AutoSample(
        toy_model("mf"), toy_train(), samplers=["dns:pool=6"], objective="uniform"
    )
    positive = int(toy_train().row(0)[0])
    counts = np.zeros(NUM_ITEMS)
    for step in range(60):
        drawn = autosample.sample(make_batch([0] * 64, [positive] * 64, step=step))
        counts += np.bincount(drawn.blocks.items.numpy().ravel(), minlength=NUM_ITEMS)
    assert stats.chisquare(counts).pvalue > 1e-3


class Stranger(Sampler):
    """Answers with what it is given."""

    def __init__(self, answer: object):
        super().__init__()
        self.answer = answer

    @property
    def spec(self) -> str:
        return "mine:Stranger"

    def sample(self, context: Context) -> Negatives:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (tf.zeros([ROWS, 2], tf.int32), "Negatives of the sampler mine:Stranger; received Eager"),
        (Negatives(tf.zeros([ROWS, 2], tf.int64), tf.zeros([ROWS, 2])), r"int64 of shape \(8, 2\)"),
        (Negatives(tf.zeros([2, ROWS], tf.int32), tf.zeros([2, ROWS])), r"items \[8, n\] int32 of"),
        (
            Negatives(tf.zeros([ROWS, 2], tf.int32), tf.zeros([ROWS, 3])),
            r"weights \[8, 2\] float32",
        ),
        (
            Negatives(tf.zeros([ROWS, 2], tf.int32), tf.zeros([ROWS, 2], tf.float64)),
            r"received float64 of shape \(8, 2\)",
        ),
    ],
)
def test_a_sampler_that_answers_something_else_is_named(answer: object, told: str) -> None:
    mine = AutoSample(
        toy_model("mf"), toy_train(), samplers=[Stranger(answer)], objective="uniform"
    )
    with pytest.raises(InputError, match=told):
        mine.sample(batch())

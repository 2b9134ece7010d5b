"""Negatives mixed from hard items and the positive: `mixgcf` and `dins`, on MF and LightGCN.

Layers are worked out here as powers of the dense adjacency matrix. What `combine` is given
is read off a step whose `combine` keeps the layers apart.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from laws import DEGREES, NOTHING, NUM_ITEMS, answer_of, context_for, three_users
from scipy import stats
from step_oracle import parameters, powers_of_adjacency
from worlds import NUM_USERS, WHOLE_CATALOGUE, context_of, toy_model, toy_train

from autosample_tf.models import MF
from autosample_tf.samplers import Context, Negatives

POOL, ROWS, DIM = 6, 700, 4
LAYERS = {"mf": 1, "lightgcn": 3}


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


def toy_step(kind: str) -> Context:
    """Rows of the toy world's users in turn, with positives of any sort."""
    users = np.arange(ROWS) % NUM_USERS
    positives = np.random.default_rng(4).integers(0, 14, ROWS)
    return context_of(
        users, toy_train(), width=POOL + 3, model=toy_model(kind), positives=positives
    )


def apart(context: Context) -> Context:
    """The step with representations that are all the layers, one behind the other."""
    layers = context.layers()

    def keep(each: tf.Tensor) -> tf.Tensor:
        return tf.reshape(each, [ROWS, -1])

    split = dataclasses.replace(layers, combine=keep)
    return dataclasses.replace(context, layers=lambda: split)


def hops_of(spec: str, context: Context) -> np.ndarray:
    """[rows, layers, dim]: what the sampler hands to `combine`."""
    answer = answer_of(spec, apart(context), toy_train())
    return answer.embeddings.numpy().reshape(ROWS, -1, DIM)


@dataclasses.dataclass
class Expected:
    """What is mixed, worked out by hand.

    Attributes:
      users: [rows, dim], their representations.
      positives: [rows, layers, dim].
      hardest: [rows, layers, dim], each layer's own hardest item there.
      items: [rows, layers], which those are.
      has: [rows] bool: some candidate is allowed.
    """

    users: np.ndarray
    positives: np.ndarray
    hardest: np.ndarray
    items: np.ndarray
    has: np.ndarray


def expected_of(kind: str, context: Context) -> Expected:
    train, num_layers = toy_train(), LAYERS[kind]
    layers = powers_of_adjacency(train, num_layers - 1) @ parameters(toy_model(kind))
    users = layers.mean(axis=0)[context.users.numpy()]
    of_items = layers[:, NUM_USERS:]  # [layers, items, dim]
    items = np.zeros((ROWS, num_layers), int)
    has = np.zeros(ROWS, bool)
    for row in range(ROWS):
        candidates = context.pool.items.numpy()[row, :POOL]
        allowed = np.setdiff1d(candidates, train.row(int(context.users[row])))
        has[row] = len(allowed) > 0
        for layer in range(num_layers if has[row] else 0):
            items[row, layer] = allowed[(of_items[layer, allowed] @ users[row]).argmax()]
    return Expected(
        users=users,
        positives=of_items[:, context.positives.numpy()].transpose(1, 0, 2),
        hardest=of_items[np.arange(num_layers), items],
        items=items,
        has=has,
    )


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("spec", ["mixgcf:pool=6", "dins:pool=6"])
def test_the_item_of_layer_0_is_named_and_its_weight_is_1(spec: str, kind: str) -> None:
    context = toy_step(kind)
    expected, answer = expected_of(kind, context), answer_of(spec, context, toy_train())
    np.testing.assert_array_equal(answer.weights[:, 0], expected.has)
    np.testing.assert_array_equal(
        answer.items.numpy()[expected.has, 0], expected.items[expected.has, 0]
    )
    assert not expected.has[context.users == WHOLE_CATALOGUE].any()
    if kind == "lightgcn":  # the layers differ about which is the hardest
        assert (expected.items != expected.items[:, :1]).any(axis=1).mean() > 0.3


@pytest.mark.parametrize("kind", LAYERS)
def test_every_hop_of_mixgcf_lies_between_the_positive_and_its_hardest_item(kind: str) -> None:
    """e_l = a_l p_l + (1 - a_l) c_l, c_l the best allowed candidate of layer l for the user."""
    context = toy_step(kind)
    expected, hops = expected_of(kind, context), hops_of("mixgcf:pool=6", context)
    hops, positives, hardest = (
        x[expected.has] for x in (hops, expected.positives, expected.hardest)
    )
    way = positives - hardest
    length = (way**2).sum(axis=2)
    share = ((hops - hardest) * way).sum(axis=2) / np.where(length > 1e-6, length, 1)
    np.testing.assert_allclose(hops, hardest + share[:, :, None] * way, atol=1e-5)
    differ = length > 1e-3
    assert ((share > -1e-3) & (share < 1 + 1e-3)).all()
    drawn = context.draws.uniform("mixgcf:pool=6", hops.shape[1]).numpy()[expected.has]
    np.testing.assert_allclose(share[differ], drawn[differ], atol=1e-3)
    for layer in range(hops.shape[1]):  # uniform in every layer, and not the same in two
        assert stats.kstest(share[differ[:, layer], layer], "uniform").pvalue > 1e-3
    correlation = np.corrcoef(drawn.T) - np.eye(hops.shape[1])
    assert np.abs(correlation).max() < 3.5 / np.sqrt(len(drawn))


@pytest.mark.parametrize("spec", ["mixgcf:pool=6", "dins:pool=6"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_negative_is_the_mean_of_its_hops(kind: str, spec: str) -> None:
    context = toy_step(kind)
    answer: Negatives = answer_of(spec, context, toy_train())
    hops = hops_of(spec, context)
    assert answer.embeddings.shape == (ROWS, 1, DIM)
    np.testing.assert_allclose(answer.embeddings[:, 0], hops.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0, 20.0])
@pytest.mark.parametrize("kind", LAYERS)
def test_dins_mixes_dimension_by_dimension(kind: str, alpha: float) -> None:
    """(e^(q h) h + alpha e^(q p) p) / (e^(q h) + alpha e^(q p)), q the user, in each layer."""
    context = toy_step(kind)
    expected = expected_of(kind, context)
    q, p, h = expected.users[:, None], expected.positives, expected.hardest
    by_hand = (np.exp(q * h) * h + alpha * np.exp(q * p) * p) / (
        np.exp(q * h) + alpha * np.exp(q * p)
    )
    hops = hops_of(f"dins:pool=6,alpha={alpha}", context)
    np.testing.assert_allclose(hops[expected.has], by_hand[expected.has], atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("alpha", ["1e-30", "1e30", "inf"])
def test_the_limits_of_dins_are_the_hardest_item_and_the_positive(kind: str, alpha: str) -> None:
    context = toy_step(kind)
    expected = expected_of(kind, context)
    limit = expected.hardest if alpha == "1e-30" else expected.positives
    hops = hops_of(f"dins:pool=6,alpha={alpha}", context)
    np.testing.assert_allclose(hops[expected.has], limit[expected.has], atol=1e-5)


@pytest.mark.parametrize("user", DEGREES)
def test_towards_alpha_0_the_vector_of_dins_is_that_of_dns(user: int) -> None:
    context = context_for(user, width=6, draws=500)
    dins, dns = (answer_of(spec, context) for spec in ("dins:pool=6,alpha=1e-30", "dns:pool=6"))
    np.testing.assert_array_equal(dins.items, dns.items)
    np.testing.assert_array_equal(dins.weights, dns.weights)
    np.testing.assert_allclose(dins.embeddings, context.embed(dns.items), atol=1e-6)

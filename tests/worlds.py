"""Small worlds that several test modules share: pairs, batches, samplers, contexts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.losses.pairwise import BPR
from autosample_tf.models import MF, NGCF, LightGCN, NeuMF
from autosample_tf.ops.membership import PairSet
from autosample_tf.ops.randomness import Draws
from autosample_tf.samplers import SAMPLERS
from autosample_tf.samplers.contract import Context, Feedback
from autosample_tf.step.pool import Step, make_context

NUM_USERS, NUM_ITEMS = 7, 14
WHOLE_CATALOGUE, ALL_BUT_ONE, NEWCOMER = 3, 5, 6  # users of the toy world

Batch = dict[str, tf.Tensor]


def slow_but(fast: Iterable[str], cases: Iterable[str]) -> list[Any]:
    """A test's cases, those marked slow that are not among the fast ones."""
    return [case if case in fast else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def kind_or_specs(value: str | list[str]) -> str:
    """A case's id: a kind as it is; of specs the one, or all."""
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else "all"


def from_dense(liked: np.ndarray) -> Interactions:
    """The pairs of a matrix [num_users, num_items] of booleans."""
    users, items = np.nonzero(liked)
    return Interactions.from_pairs(users, items, num_users=liked.shape[0], num_items=liked.shape[1])


def to_dense(interactions: Interactions) -> np.ndarray:
    """[num_users, num_items] bool."""
    users, items = np.indices((interactions.num_users, interactions.num_items))
    return interactions.contains(users, items)


def toy_train() -> Interactions:
    """A third of 7 x 14; with a user who has all, one who lacks one item, one without any."""
    liked = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.35
    liked[WHOLE_CATALOGUE] = True
    liked[ALL_BUT_ONE] = np.arange(NUM_ITEMS) != 4
    liked[NEWCOMER] = False
    return from_dense(liked)


def toy_held_out() -> Interactions:
    """Pairs outside `toy_train`, of users 0, 1, 2 and 4 only."""
    held = np.random.default_rng(1).random((NUM_USERS, NUM_ITEMS)) < 0.4
    held &= ~to_dense(toy_train())
    held[[WHOLE_CATALOGUE, ALL_BUT_ONE, NEWCOMER]] = False
    return from_dense(held)


def toy_feedback() -> Feedback:
    """The toy world's train pairs, with given negatives of users 0 to 5, some of them
    train pairs as well."""
    given = np.random.default_rng(2).random((NUM_USERS, NUM_ITEMS)) < 0.5
    given[NEWCOMER] = np.arange(NUM_ITEMS) % 3 == 0
    return Feedback(toy_train(), from_dense(given))


def toy_model(kind: str, *, dim: int = 4, seed: int = 0) -> MF:
    """A model over the toy world, with scores of the order of 1; nothing drops out."""
    settings = {"dim": dim, "init_scale": 0.7, "seed": seed}
    if kind == "mf":
        return MF(NUM_USERS, NUM_ITEMS, **settings)
    if kind == "lightgcn":
        return LightGCN(toy_train(), layers=2, **settings)
    if kind == "neumf":
        return NeuMF(NUM_USERS, NUM_ITEMS, layers=1, **settings)
    assert kind == "ngcf"
    return NGCF(toy_train(), layers=2, node_dropout=0.0, message_dropout=0.0, **settings)


def small_specs(pool: int = 6) -> list[str]:
    """Every registered sampler's canonical spec, with a pool that the toy world can exhaust."""
    smaller = {"pool": pool, "n": 3, "batch": 2, "uniform": 3, "mean_rank": float(pool), "dim": 3,
               "cache": 4, "memory": 4, "random": pool, "resample": 4, "ring": 3}  # fmt: skip
    specs = []
    for own in SAMPLERS.values():
        options = inspect.signature(own).parameters
        specs.append(own(**{name: v for name, v in smaller.items() if name in options}).spec)
    return specs


def make_batch(
    users: list[int], positives: list[int], weights: list[float] | None = None, step: int = 0
) -> Batch:
    """One batch as `pipeline.training_batches` makes them."""
    rows = len(users)
    return {
        "user": tf.constant(users, tf.int32),
        "positive": tf.constant(positives, tf.int32),
        "weight": tf.constant(weights or [1.0] * rows, tf.float32),
        "position": tf.range(step * rows, (step + 1) * rows, dtype=tf.int64),
    }


def context_of(
    users: np.ndarray,
    train: Interactions,
    *,
    width: int,
    model: MF | None = None,
    positives: np.ndarray | None = None,
    seed: int = 0,
    step: int = 0,
    progress: float = 0.0,
) -> Context:
    """What a sampler sees of a step in which these users are the batch."""
    rows = len(users)
    model = model or MF(train.num_users, train.num_items, dim=4, init_scale=0.7)
    positives = np.zeros(rows) if positives is None else positives
    positions = tf.range(step * rows, (step + 1) * rows, dtype=tf.int64)
    batch = {
        "user": tf.constant(users, tf.int32),
        "positive": tf.constant(positives, tf.int32),
        "weight": tf.ones([rows]),
    }
    told = Step(PairSet(train), Draws(seed, positions, rows), tf.constant(progress), BPR())
    return make_context(model, model.propagate(), batch, told, width)[0]

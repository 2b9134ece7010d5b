"""`aobpr`: a factor by its weight for the user, an item by its rank in that factor."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from laws import assert_frequencies, assert_share
from worlds import context_of, from_dense, to_dense

from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.samplers import Negatives, Sampler, build_sampler
from autosample_tf.samplers.contract import Feedback

NUM_ITEMS, DIM = 12, 3
ROWS = 20_000
SPREADS = np.array([0.5, 2.0, 1.0])
# Users: of each factor alone, upwards and downwards; of all factors; of factor 1, three of
# whose six best items are positives; of no factor at all.
UP, DOWN, ALL, BUSY, BLANK = 0, 3, 6, 7, 8
USERS = [*np.eye(DIM), *-2.0 * np.eye(DIM), [3.0, -0.5, 0.25], [0.0, 1.0, 0.0], [0.0] * DIM]


def world() -> tuple[Interactions, MF]:
    """Items' factors are different permutations of evenly spaced numbers times `SPREADS`."""
    rng = np.random.default_rng(0)
    even = np.linspace(-1, 1, NUM_ITEMS)
    factors = [rng.permutation(even) * spread / even.std() for spread in SPREADS]
    model = MF(len(USERS), NUM_ITEMS, dim=DIM)
    model.user_table.assign(USERS)
    model.item_table.assign(5.0 + np.stack(factors, axis=1))  # the mean is no part of it
    liked = np.zeros((len(USERS), NUM_ITEMS), bool)
    liked[BUSY, orders(model)[1][[0, 2, 5]]] = True
    return from_dense(liked), model


def orders(model: MF) -> np.ndarray:
    """[dim, num_items]: each factor's items, greatest first."""
    return np.argsort(-model.item_table.numpy().T, axis=1)


def built(train: Interactions, mean_rank: float) -> Sampler:
    sampler = build_sampler(f"aobpr:mean_rank={mean_rank}")
    sampler.build(Feedback(train), DIM)
    return sampler


def drawn_for(user: int, mean_rank: float = 3.0) -> Negatives:
    """Negatives of the user once the orders are those of the model's items."""
    train, model = world()
    sampler = built(train, mean_rank)
    context = context_of(np.full(ROWS, user), train, width=1, model=model)
    sampler.update(context, sampler.sample(context))
    return sampler.sample(context)


def test_orders_that_were_made_up_are_renewed_at_the_first_step_of_all() -> None:
    """As those of a branch, which begins in the middle of training."""
    train, model = world()
    sampler = built(train, 3.0)
    context = context_of(np.full(2, UP), train, width=1, model=model, step=1)
    sampler.update(context, sampler.sample(context))
    np.testing.assert_array_equal(sampler._orders.numpy(), orders(model))
    model.item_table.assign(-model.item_table)
    context = context_of(np.full(2, UP), train, width=1, model=model, step=2)
    sampler.update(context, sampler.sample(context))
    np.testing.assert_array_equal(sampler._orders.numpy(), orders(world()[1]))  # until it is due


def geometric(mean_rank: float) -> np.ndarray:
    """[num_items]: p(r) ~ exp(-r / mean_rank), r from 0."""
    law = np.exp(-np.arange(NUM_ITEMS) / mean_rank)
    return law / law.sum()


@pytest.mark.parametrize("factor", range(DIM))
@pytest.mark.parametrize("mean_rank", [0.5, 3.0, 1e6])
def test_ranks_are_geometric_in_the_users_only_factor(mean_rank: float, factor: int) -> None:
    best_first = orders(world()[1])[factor]
    items = drawn_for(UP + factor, mean_rank).items.numpy()[:, 0]
    likely = ROWS * geometric(mean_rank) >= 5
    assert_frequencies(
        items[np.isin(items, best_first[likely])], best_first[likely], geometric(mean_rank)[likely]
    )
    assert_share(~np.isin(items, best_first[likely]), geometric(mean_rank)[~likely].sum())


@pytest.mark.parametrize("factor", range(DIM))
def test_a_negative_entry_turns_the_order_round(factor: int) -> None:
    worst_first = orders(world()[1])[factor][::-1]
    answer = drawn_for(DOWN + factor)
    assert_frequencies(answer.items.numpy()[:, 0], worst_first, geometric(3.0))
    np.testing.assert_array_equal(answer.weights, np.ones((ROWS, 1)))


def test_factors_are_drawn_by_weight_and_spread() -> None:
    """|e_uf| std_f = 3 * 0.5, 0.5 * 2 and 0.25 * 1 of 2.75; with mean_rank 0.01 the first item
    of each order is the only one, factor 1's being turned round."""
    _, model = world()
    items = drawn_for(ALL, mean_rank=0.01).items.numpy()[:, 0]
    first = np.array([orders(model)[0, 0], orders(model)[1, -1], orders(model)[2, 0]])
    assert len(set(first)) == 3
    np.testing.assert_allclose(model.item_table.numpy().std(axis=0), SPREADS, rtol=1e-5)
    assert_frequencies(items, first, np.array([1.5, 1.0, 0.25]))


def test_all_factors_and_ranks_together() -> None:
    """q(j) = sum_f p(f) p(rank of j in f): the card's law."""
    _, model = world()
    law = np.zeros(NUM_ITEMS)
    for factor, (share, flip) in enumerate([(1.5, False), (1.0, True), (0.25, False)]):
        order = orders(model)[factor]
        law[order[::-1] if flip else order] += share / 2.75 * geometric(3.0)
    assert_frequencies(drawn_for(ALL).items.numpy()[:, 0], np.arange(NUM_ITEMS), law)


def test_a_user_without_any_factor_has_a_negative() -> None:
    answer = drawn_for(BLANK)
    np.testing.assert_array_equal(answer.weights, np.ones((ROWS, 1)))
    assert ((answer.items.numpy() >= 0) & (answer.items.numpy() < NUM_ITEMS)).all()


def test_positives_are_drawn_again_up_to_eight_times() -> None:
    """The law given that the item is unobserved; none is left with P(positive)^8."""
    train, model = world()
    order, law = orders(model)[1], geometric(3.0)
    observed = to_dense(train)[BUSY][order]
    answer = drawn_for(BUSY)
    has = answer.weights.numpy()[:, 0] > 0
    assert_share(~has, law[observed].sum() ** 8)
    assert_frequencies(answer.items.numpy()[has, 0], order[~observed], law[~observed])


@pytest.mark.parametrize("rows", [1, 7, 10, 500])
def test_orders_are_renewed_every_items_log2_items_examples(rows: int) -> None:
    """12 log2 12 = 43.0 examples: of 10 a step every 4 steps, of 500 each step."""
    train, model = world()
    every = max(1, round(NUM_ITEMS * np.log2(NUM_ITEMS) / rows))
    assert every == {1: 43, 7: 6, 10: 4, 500: 1}[rows]
    sampler, fresh = built(train, 3.0), []
    for step in range(2 * every + 2):
        model.item_table.assign(np.random.default_rng(step).normal(size=(NUM_ITEMS, DIM)))
        context = context_of(np.full(rows, UP), train, width=1, model=model, step=step)
        sampler.update(context, sampler.sample(context))
        fresh.append(is_of(sampler, model))
    assert [step for step, is_fresh in enumerate(fresh) if is_fresh] == list(
        range(0, 2 * every + 2, every)
    )


def is_of(sampler: Sampler, model: MF) -> bool:
    """Whether the sampler's state is that of the model's items now."""
    found = {variable.name.split(":")[0]: variable.numpy() for variable in sampler.variables}
    factors = model.item_table.numpy()
    same = np.array_equal(found["orders"], orders(model))
    assert same == np.allclose(found["spreads"], factors.std(axis=0), rtol=1e-5)
    return same


def test_before_the_first_step_orders_are_permutations() -> None:
    train, _ = world()
    sampler = built(train, 3.0)
    found = {v.name.split(":")[0]: v.numpy() for v in sampler.variables}
    np.testing.assert_array_equal(np.sort(found["orders"]), np.tile(np.arange(NUM_ITEMS), (DIM, 1)))
    assert len({tuple(order) for order in found["orders"]}) == DIM
    np.testing.assert_array_equal(found["spreads"], np.ones(DIM))


def test_the_state_is_no_parameter_and_is_saved() -> None:
    sampler = built(world()[0], 3.0)
    assert len(sampler.variables) == 3
    assert sampler.trainable_variables == ()
    assert isinstance(sampler, tf.Module)


@pytest.mark.parametrize("mean_rank", ["0", "-1", "nan", "inf"])
def test_a_mean_rank_has_to_be_above_0_and_finite(mean_rank: str) -> None:
    with pytest.raises(InputError, match=r"aobpr's mean_rank (above 0|finite)"):
        build_sampler(f"aobpr:mean_rank={mean_rank}")

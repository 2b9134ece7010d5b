"""Samplers that remember items for each user: what their memories hold, and how they change."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from laws import (
    DRAWS,
    MASKED,
    SCORES,
    assert_frequencies,
    assert_share,
    three_users,
    unobserved,
    with_pool,
)
from scipy import stats
from worlds import (
    NEWCOMER,
    NUM_ITEMS,
    NUM_USERS,
    WHOLE_CATALOGUE,
    context_of,
    from_dense,
    to_dense,
    toy_feedback,
    toy_model,
    toy_train,
)

from autosample_tf.samplers import Context, Sampler, build_sampler
from autosample_tf.samplers.caches import (
    NOTHING,
    draw_distinct,
    first_real_rows,
    initial_cache,
    is_new,
    items_of_ranks,
    write_rows,
)
from autosample_tf.samplers.contract import Feedback, Negatives, state_variable
from autosample_tf.samplers.selection import draw_columns
from autosample_tf.samplers.srns import spread_of_likelihood

SPECS = [
    "nscaching:cache=4,random=6",
    "srns:memory=4,random=6,alpha=2.0,tau=1.0,ring=3",
    "adasir:pool=6,resample=4,n=3",
]
TABLES = {"nscaching": "_cache", "srns": "_memory", "adasir": "_pools"}


def built(spec: str, feedback: Feedback | None = None) -> Sampler:
    sampler = build_sampler(spec)
    sampler.build(feedback or toy_feedback(), 4)
    return sampler


def table(sampler: Sampler) -> tf.Variable:
    """The sampler's items: [num_users, size]."""
    return getattr(sampler, TABLES[sampler.card.name])


def step_of(users: list[int] | np.ndarray, step: int = 0, **settings: int) -> Context:
    settings = {"width": 8, "model": toy_model("mf"), **settings}
    return context_of(np.asarray(users), toy_train(), step=step, **settings)


def update(sampler: Sampler, context: Context) -> Negatives:
    negatives = sampler.sample(context)
    sampler.update(context, negatives)
    return negatives


# --- the pure functions


def test_an_initial_cache_holds_distinct_unobserved_items() -> None:
    train, size = toy_train(), 5
    cache, likes = initial_cache(train, size), to_dense(train)
    assert cache.shape == (NUM_USERS, size)
    for user, row in enumerate(cache):
        there = row[row != NOTHING]
        assert len(there) == min(size, (~likes[user]).sum())
        assert len(set(there)) == len(there)
        assert not likes[user, there].any()
        assert (row[len(there) :] == NOTHING).all()


@pytest.mark.parametrize("size", [1, 3, 6])
def test_an_initial_cache_favours_no_item(size: int) -> None:
    """Over many users who lack the same 6 of 8 items, each is in size / 6 of the caches."""
    liked = np.zeros((6000, 8), bool)
    liked[:, [2, 5]] = True
    cache = initial_cache(from_dense(liked), size)
    for item in (0, 1, 3, 4, 6, 7):
        assert_share((cache == item).any(axis=1), size / 6)


def test_initial_caches_of_other_seeds_are_others() -> None:
    one, again, other = (initial_cache(three_users(), 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_items_of_ranks_are_the_unobserved_in_order() -> None:
    train = toy_train()
    ranks = np.tile(np.arange(NUM_ITEMS), (NUM_USERS, 1))
    counts = (NUM_ITEMS - train.degrees)[:, None]
    items = items_of_ranks(train, np.where(ranks < counts, ranks, NOTHING))
    for user in range(NUM_USERS):
        expected = unobserved(train, user)
        np.testing.assert_array_equal(items[user, : len(expected)], expected)
        assert (items[user, len(expected) :] == NOTHING).all()


def test_an_item_is_new_once_and_only_where_it_is_not_cached() -> None:
    rng = np.random.default_rng(0)
    cached, candidates = rng.integers(-1, 9, (50, 4)), rng.integers(0, 9, (50, 7))
    found = is_new(tf.constant(cached, tf.int32), tf.constant(candidates, tf.int32)).numpy()
    for row in range(50):
        seen = set(cached[row])
        for column, item in enumerate(candidates[row]):
            assert found[row, column] == (item not in seen)
            seen.add(item)


def uniform(columns: int, seed: int = 0) -> tf.Tensor:
    return tf.random.stateless_uniform([DRAWS, columns], [seed, 0])


def law_of_ordered_pairs(scores: np.ndarray) -> dict[tuple[int, int], float]:
    """P(first i, then j) = w_i / W * w_j / (W - w_i), drawing without replacement."""
    weights = np.exp(scores)
    total = weights.sum()
    return {
        (i, j): weights[i] / total * weights[j] / (total - weights[i])
        for i, j in itertools.permutations(range(len(scores)), 2)
    }


def assert_ordered_pairs(pairs: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> None:
    """That `pairs` [draws, 2] of `columns` follow `law_of_ordered_pairs`."""
    law = law_of_ordered_pairs(scores)
    counts = [((pairs[:, 0] == columns[i]) & (pairs[:, 1] == columns[j])).sum() for i, j in law]
    assert sum(counts) == len(pairs)
    assert stats.chisquare(counts, len(pairs) * np.array(list(law.values()))).pvalue > 1e-3


@pytest.mark.parametrize("allowed", [[True] * 6, MASKED])
def test_distinct_draws_are_in_proportion_to_exp_of_the_logits(allowed: list[bool]) -> None:
    logits, mask = (tf.tile(tf.constant([x]), [DRAWS, 1]) for x in (SCORES, allowed))
    columns, found = draw_distinct(logits, mask, uniform(6), 2)
    assert found.numpy().all()
    there = np.flatnonzero(allowed)
    assert_ordered_pairs(columns.numpy(), there, np.array(SCORES)[there])


def test_where_fewer_are_allowed_the_rest_is_not_found() -> None:
    logits, mask = (tf.tile(tf.constant([x]), [DRAWS, 1]) for x in (SCORES, MASKED))
    columns, found = draw_distinct(logits, mask, uniform(6), 6)
    np.testing.assert_array_equal(found, np.tile([True] * 4 + [False] * 2, (DRAWS, 1)))
    assert (np.sort(columns.numpy()[:, :4]) == np.flatnonzero(MASKED)).all()


def test_a_uniform_number_of_0_is_no_masked_column() -> None:
    columns, found = draw_distinct(tf.zeros([1, 3]), tf.constant([[True, False, True]]),
                                   tf.zeros([1, 3]), 2)  # fmt: skip
    assert found.numpy().all()
    np.testing.assert_array_equal(columns, [[0, 2]])


def test_repeated_draws_are_independent_and_never_of_share_0() -> None:
    shares = np.array([0.1, 0.0, 0.5, 0.4, 0.0])
    drawn = draw_columns(tf.tile(tf.constant([shares], tf.float32), [DRAWS, 1]), uniform(2))
    drawn = drawn.numpy()
    law = np.outer(shares, shares)[np.ix_([0, 2, 3], [0, 2, 3])].ravel()
    values = np.array([10 * i + j for i in (0, 2, 3) for j in (0, 2, 3)])
    assert_frequencies(10 * drawn[:, 0] + drawn[:, 1], values, law)


def test_the_first_real_row_of_each_user() -> None:
    users, real = [3, 1, 3, 0, 1, 1, 2], [False, True, True, True, True, False, False]
    first = first_real_rows(tf.constant(users), tf.constant(real), 5)
    np.testing.assert_array_equal(first, [2, 1, 2, 3, 1, 1, 7])


def test_a_user_is_written_once_by_the_first_real_row_and_padding_writes_nothing() -> None:
    one, two = state_variable(np.zeros((5, 2), np.int32), "one"), tf.Variable(tf.zeros([5, 1, 2]))
    context = step_of([3, 1, 3, 0, 1, 1, 2])
    weights = tf.constant([0.0, 1, 1, 1, 1, 0, 0])
    rows = tf.reshape(tf.range(1, 15), [7, 2])
    write_rows(dataclasses.replace(context, example_weight=weights), (one, rows),
               (two, tf.cast(rows, tf.float32)[:, None, :]))  # fmt: skip
    expected = [[7, 8], [3, 4], [0, 0], [5, 6], [0, 0]]
    np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(two[:, 0], expected)


# --- what all of them keep


@pytest.mark.parametrize("spec", SPECS)
class TestMemories:
    def test_sampling_changes_nothing(self, spec: str) -> None:
        sampler = built(spec)
        before = [variable.numpy() for variable in sampler.variables]
        sampler.sample(step_of(np.arange(NUM_USERS)))
        for variable, value in zip(sampler.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)

    def test_only_the_batchs_users_change(self, spec: str) -> None:
        sampler = built(spec)
        before = [variable.numpy() for variable in sampler.variables]
        for step in range(5):
            update(sampler, step_of([0, 4, 4], step))
        for variable, value in zip(sampler.variables, before, strict=True):
            changed = (variable.numpy() != value).reshape(NUM_USERS, -1).any(axis=1)
            np.testing.assert_array_equal(np.flatnonzero(changed), [0, 4])

    def test_never_a_train_positive_and_negatives_are_from_the_memory(self, spec: str) -> None:
        sampler, likes, users = built(spec), to_dense(toy_train()), np.arange(NUM_USERS)
        for step in range(30):
            held = table(sampler).numpy()
            answer = update(sampler, step_of(users, step))
            drawn, has = answer.items.numpy(), answer.weights.numpy() > 0
            assert ((drawn[:, :, None] == held[:, None, :]).any(axis=2) | ~has).all()
            held = table(sampler).numpy()
            assert (held < NUM_ITEMS).all()
            assert not likes[users[:, None], held][held != NOTHING].any()
            assert (held[WHOLE_CATALOGUE] == NOTHING).all()
            if not spec.startswith("adasir"):
                for row in held:
                    there = row[row != NOTHING]
                    assert len(set(there)) == len(there)

    def test_a_memory_is_as_full_as_it_can_be(self, spec: str) -> None:
        sampler = built(spec)
        for step in range(10):
            update(sampler, step_of(np.arange(NUM_USERS), step))
        free = (table(sampler).numpy() == NOTHING).sum(axis=1)
        lacking = np.maximum(4 - (NUM_ITEMS - toy_train().degrees), 0)
        assert (free <= lacking).all()
        assert free[NEWCOMER] == 0

    def test_equal_seeds_change_memories_alike_and_others_otherwise(self, spec: str) -> None:
        held = []
        for seed in (0, 0, 1):
            sampler = built(spec)
            for step in range(3):
                update(sampler, step_of(np.arange(NUM_USERS), step, seed=seed))
            held.append([variable.numpy() for variable in sampler.variables])
        for first, second in zip(held[0], held[1], strict=True):
            np.testing.assert_array_equal(first, second)
        assert any((first != other).any() for first, other in zip(held[0], held[2], strict=True))

    def test_a_graph_changes_what_python_changes(self, spec: str) -> None:
        held = []
        for in_graph in (False, True):
            sampler = built(spec)
            context = step_of([0, 1, 2, 0, 6])

            def step(sampler: Sampler = sampler, context: Context = context) -> None:
                update(sampler, context)

            (tf.function(step) if in_graph else step)()
            held.append([variable.numpy() for variable in sampler.variables])
        for first, second in zip(*held, strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-6)

    def test_repeated_users_get_the_first_of_their_rows(self, spec: str) -> None:
        one, other = built(spec), built(spec)
        update(one, step_of([0, 1, 0, 0, 1]))
        several = step_of([0, 1, 0, 0, 1])
        alone = dataclasses.replace(several, example_weight=tf.constant([1.0, 1, 0, 0, 0]))
        update(other, alone)
        np.testing.assert_array_equal(table(one), table(other))


# --- nscaching


def many_users(items: int = 6) -> Feedback:
    """As many users as draws, all of whom have nothing."""
    return Feedback(from_dense(np.zeros((DRAWS, items), bool)))


def scored(feedback: Feedback, pool: list[int], scores: list[float], step: int = 0) -> Context:
    """Each user once; item c has the score `scores[c]` for all, positives that of item 0."""
    context = context_of(np.arange(DRAWS), feedback.train, width=len(pool), step=step)
    by_item = tf.constant(scores, tf.float32)
    items = tf.tile(tf.constant([pool]), [DRAWS, 1])
    pool_of_all = dataclasses.replace(
        context.pool, items=items, allowed=tf.ones_like(items, tf.bool),
        scores=tf.gather(by_item, items))  # fmt: skip
    return dataclasses.replace(
        context,
        pool=pool_of_all,
        user_embeddings=tf.ones([DRAWS, 1]),
        positive_scores=tf.fill([DRAWS], by_item[0]),
        embed_cached=lambda items: tf.gather(by_item, items)[..., None],
        score=lambda users, items: tf.reduce_sum(users * items, axis=-1),
    )


def test_nscaching_draws_uniformly_from_the_cache() -> None:
    feedback = many_users()
    sampler = built("nscaching:cache=4,random=6", feedback)
    table(sampler).assign(np.tile([[5, 0, 3, NOTHING]], [DRAWS, 1]))
    answer = sampler.sample(scored(feedback, [0] * 6, SCORES))
    assert (answer.weights.numpy() == 1).all()
    assert_frequencies(answer.items.numpy()[:, 0], np.array([0, 3, 5]), np.ones(3))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_nscaching_keeps_in_proportion_to_exp_of_the_score(temperature: float) -> None:
    """Of cache [1, 4] and pool [0, 4, 3, 0]: items 0, 1, 3 and 4 once each."""
    feedback = many_users()
    sampler = built(f"nscaching:cache=2,random=4,temperature={temperature}", feedback)
    table(sampler).assign(np.tile([[1, 4]], [DRAWS, 1]))
    update(sampler, scored(feedback, [0, 4, 3, 0], SCORES))
    there = np.array([0, 1, 3, 4])
    assert_ordered_pairs(table(sampler).numpy(), there, np.array(SCORES)[there] / temperature)


def test_towards_temperature_0_nscaching_keeps_the_best() -> None:
    feedback = many_users()
    sampler = built("nscaching:cache=3,random=4,temperature=1e-4", feedback)
    table(sampler).assign(np.tile([[1, 4, 0]], [DRAWS, 1]))
    update(sampler, scored(feedback, [0, 5, 2, 2], SCORES))
    np.testing.assert_array_equal(table(sampler), np.tile([2, 5, 0], (DRAWS, 1)))


# --- srns


def test_srns_picks_the_likely_and_variable_item() -> None:
    sampler, rng = built(SPECS[1]), np.random.default_rng(0)
    users = np.arange(NUM_USERS)
    sampler._rings.assign(rng.normal(size=(NUM_USERS, 4, 3)).astype(np.float32))
    sampler._filled.assign(rng.integers(0, 4, (NUM_USERS, 4)).astype(np.int32))
    context = dataclasses.replace(step_of(users), progress=tf.constant(0.05))
    answer = sampler.sample(context)
    memory, model = table(sampler).numpy(), toy_model("mf")
    for user in users:
        there = [k for k in range(4) if memory[user, k] != NOTHING]
        assert float(answer.weights[user, 0]) == bool(there)
        if there:
            merits = [srns_merit(sampler, model, user, k, float(context.positive_scores[user]))
                      for k in there]  # fmt: skip
            assert int(answer.items[user, 0]) == memory[user, there[int(np.argmax(merits))]]


def srns_merit(sampler: Sampler, model: object, user: int, place: int, positive: float) -> float:
    """P + alpha_t std, at progress 0.05 of a warm-up of 0.125."""
    item = table(sampler).numpy()[user, place]
    score = model.user_table.numpy()[user] @ model.item_table.numpy()[item]
    count = sampler._filled.numpy()[user, place]
    ring = sampler._rings.numpy()[user, place][3 - count :]
    std = np.std(1 / (1 + np.exp(positive - ring))) if count else 0.0
    return 1 / (1 + np.exp(positive - score)) + 2.0 * 0.05 / 0.125 * std


def test_the_spread_of_one_score_or_none_is_0() -> None:
    rings = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 3)), tf.float32)
    spread = spread_of_likelihood(rings, tf.constant([[0, 1, 2, 3]]), tf.zeros([1])).numpy()
    np.testing.assert_array_equal(spread[0, :2], [0, 0])
    likelihood = 1 / (1 + np.exp(-rings.numpy()[0]))
    np.testing.assert_allclose(spread[0, 2], likelihood[2, 1:].std(), rtol=1e-5)
    np.testing.assert_allclose(spread[0, 3], likelihood[3].std(), rtol=1e-5)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_at_alpha_0_and_at_the_start_srns_takes_the_best_scored(progress: float) -> None:
    spec = "srns:memory=4,random=6,alpha=0.0" if progress else SPECS[1]
    sampler = built(spec)
    shape = sampler._rings.shape
    sampler._rings.assign(np.random.default_rng(0).normal(size=shape, scale=3).astype(np.float32))
    sampler._filled.assign(np.full(shape[:2], shape[2], np.int32))
    context = dataclasses.replace(step_of([0, 1, 2, 4]), progress=tf.constant(progress))
    memory = table(sampler).numpy()[[0, 1, 2, 4]]
    embeddings = context.embed(tf.maximum(memory, 0))
    scores = context.score(context.user_embeddings[:, None, :], embeddings).numpy()
    best = np.where(memory == NOTHING, -np.inf, scores).argmax(axis=1)
    np.testing.assert_array_equal(sampler.sample(context).items[:, 0], memory[range(4), best])


def test_an_items_ring_has_its_scores_since_it_came() -> None:
    """Scores grow by 10 a step: a ring tells when its item came, and loses its oldest."""
    feedback = many_users()
    sampler = built("srns:memory=3,random=4,tau=100.0,ring=3", feedback)
    scores, since = np.array(SCORES), {}
    for step in range(5):
        context = scored(feedback, [0, 1, 2, 3], list(scores + 10 * step), step)
        update(sampler, context)
        memory = table(sampler).numpy()
        rings, filled = sampler._rings.numpy(), sampler._filled.numpy()
        for user in range(50):
            held = {item: since.get((user, item), step) for item in memory[user]}
            since = {k: v for k, v in since.items() if k[0] != user}
            since |= {(user, item): came for item, came in held.items()}
            for place, item in enumerate(memory[user]):
                times = np.arange(held[item], step + 1)[-3:]
                assert filled[user, place] == len(times)
                ring = rings[user, place, 3 - len(times) :]
                np.testing.assert_allclose(ring, scores[item] + 10 * times, rtol=1e-5)
    assert set(since.values()) > {4, 3}


def test_srns_keeps_in_proportion_to_exp_of_the_score_over_tau() -> None:
    feedback = many_users()
    sampler = built("srns:memory=2,random=4,tau=2.0", feedback)
    table(sampler).assign(np.tile([[1, 4]], [DRAWS, 1]))
    update(sampler, scored(feedback, [0, 4, 3, 0], SCORES))
    there = np.array([0, 1, 3, 4])
    assert_ordered_pairs(table(sampler).numpy(), there, np.array(SCORES)[there] / 2.0)


# --- adasir


def test_adasir_draws_places_of_the_pool_uniformly_and_weighs_them_alike() -> None:
    feedback = many_users()
    sampler = built("adasir:pool=6,resample=4,n=2", feedback)
    table(sampler).assign(np.tile([[5, 3, 3, 0]], [DRAWS, 1]))
    answer = sampler.sample(scored(feedback, [0] * 6, SCORES))
    np.testing.assert_array_equal(answer.weights, np.full((DRAWS, 2), 0.5))
    pairs = answer.items.numpy() @ [10, 1]
    law = np.outer([1, 2, 1], [1, 2, 1]).ravel() / 16
    assert_frequencies(pairs, np.array([10 * i + j for i in (0, 3, 5) for j in (0, 3, 5)]), law)


def test_each_place_of_adasirs_pool_is_kept_or_resampled_with_equal_probability() -> None:
    """Old [5, 5]; proposals 0 to 3 with item 2 masked: a place is 5 with 1/2, else softmax."""
    feedback = many_users()
    sampler = built("adasir:pool=4,resample=2,n=1", feedback)
    table(sampler).assign(np.full([DRAWS, 2], 5))
    context = scored(feedback, [0] * 4, SCORES)
    masked = np.tile([True, True, False, True], (DRAWS, 1))
    context = with_pool(context, np.tile(SCORES[:4], (DRAWS, 1)), masked)
    update(sampler, context)
    w = np.exp(np.array(SCORES)[[0, 1, 3]])
    place = np.array([*(w / w.sum() / 2), 0.5])
    values = np.array([0, 1, 3, 5])
    pairs = table(sampler).numpy() @ [10, 1]
    law = np.outer(place, place).ravel()
    assert_frequencies(pairs, np.array([10 * i + j for i in values for j in values]), law)


def test_without_an_allowed_proposal_adasirs_pool_stays() -> None:
    feedback = many_users()
    sampler = built("adasir:pool=4,resample=2,n=1", feedback)
    before = table(sampler).numpy()
    context = scored(feedback, [0] * 4, SCORES)
    update(sampler, with_pool(context, np.zeros((DRAWS, 4)), np.zeros((DRAWS, 4), bool)))
    np.testing.assert_array_equal(table(sampler), before)

"""Rankings against a brute-force sort, and metrics against plain Python and ir_measures."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
import tensorflow as tf
from ir_measures import AP, RR, P, R, Success, nDCG

from autosample_tf import evaluation
from autosample_tf.errors import InputError
from autosample_tf.evaluation import (
    METRICS,
    Evaluator,
    Ranker,
    best_beside,
    exact_top_k,
    metrics_of_hits,
    popularity_ranking,
)
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF

LOWEST = np.finfo(np.float32).min


def interactions(pairs: list[tuple[int, int]], num_users: int, num_items: int) -> Interactions:
    users, items = [user for user, _ in pairs], [item for _, item in pairs]
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


def seen_by_degrees(degrees: np.ndarray, num_items: int, seed: int) -> Interactions:
    """Each user has as many random items as `degrees` says."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(num_items, degree, replace=False) for degree in degrees]
    pairs = [(user, item) for user, row in enumerate(rows) for item in row.tolist()]
    return interactions(pairs, len(degrees), num_items)


def integer_model(num_users: int, num_items: int, seed: int, largest: int = 2) -> MF:
    """MF whose scores are small integers: exact in float32, and full of ties."""
    model, rng = MF(num_users, num_items, dim=3), np.random.default_rng(seed)
    for table in (model.user_table, model.item_table):
        table.assign(rng.integers(-largest, largest + 1, table.shape).astype(np.float32))
    return model


def scores_of(model: MF) -> np.ndarray:
    return model.user_table.numpy() @ model.item_table.numpy().T


def brute_force(scores: np.ndarray, seen: Interactions, users: np.ndarray, k: int) -> np.ndarray:
    """The definition: sort everything, strike out what is seen, pad with -1."""
    rows = []
    for user in users:
        by = scores[user] if len(seen.row(user)) else seen.popularity
        order = np.argsort(-by, kind="stable")
        best = order[~np.isin(order, seen.row(user))]
        rows.append([*best[:k], *[-1] * (k - len(best))])
    return np.array(rows, np.int32).reshape(-1, k)


# --- exact_top_k


def assert_is_top_k(scores: np.ndarray, k: int) -> None:
    values, indices = exact_top_k(tf.constant(scores), k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))
    reference = tf.math.top_k(scores, k)
    np.testing.assert_array_equal(indices, reference.indices)
    np.testing.assert_array_equal(values, reference.values)
    assert indices.dtype == tf.int32


# 4,100 columns are 65 blocks of 64, the last with 4 columns; 4,096 are 64 whole ones.
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 1000, 4096, 4100])
@pytest.mark.parametrize("k", [1, 2, 3, 20, 31, 32, 33, 1000])
@pytest.mark.parametrize("distinct_scores", [1, 2, 5, 10**6])
def test_top_k_is_that_of_tensorflow_ties_included(n: int, k: int, distinct_scores: int) -> None:
    rng = np.random.default_rng(n + k + distinct_scores)
    assert_is_top_k(rng.integers(0, distinct_scores, (5, n)).astype(np.float32), min(k, n))


def test_top_k_where_all_of_the_best_share_one_block() -> None:
    scores = np.zeros((1, 4100), np.float32)
    scores[0, 128:138] = np.arange(10)
    assert_is_top_k(scores, 15)


def test_top_k_where_every_block_has_one_of_the_best() -> None:
    scores = np.zeros((1, 64 * 64), np.float32)
    scores[0, 63::64] = 1.0  # the last column of each block: ties across blocks
    assert_is_top_k(scores, 20)


def test_top_k_where_the_best_are_in_the_padded_block() -> None:
    scores = np.zeros((1, 4100), np.float32)
    scores[0, -4:] = [1, 3, 2, 3]
    assert_is_top_k(scores, 4)
    assert_is_top_k(scores, 10)


@pytest.mark.parametrize("lowest", [LOWEST, -np.inf])
def test_top_k_never_returns_padding_however_low_the_scores(lowest: float) -> None:
    scores = np.full((2, 4100), lowest, np.float32)
    scores[1, [7, 4098]] = [1.0, 2.0]
    assert_is_top_k(scores, 10)


def test_top_k_of_ascending_and_descending_rows() -> None:
    ascending = np.arange(4100, dtype=np.float32)
    assert_is_top_k(np.stack([ascending, -ascending]), 20)


@pytest.mark.parametrize("k", [1, 7, 40, 900])
def test_k_may_be_a_tensor(k: int) -> None:
    scores = tf.constant(np.random.default_rng(k).integers(0, 50, (5, 900)).astype(np.float32))
    in_graph = tf.function(exact_top_k)(scores, tf.constant(k))
    for own, expected in zip(in_graph, exact_top_k(scores, k), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_pairs_that_are_left_out_come_last() -> None:
    scores = tf.constant([[3.0, 1.0, 2.0], [1.0, 5.0, 4.0]])
    values, items = best_beside(scores, tf.constant([[0, 0], [1, 2], [1, 1], [1, 2]]), 3)
    assert items[0, :2].numpy().tolist() == [2, 1]
    assert items[1, 0].numpy() == 0
    np.testing.assert_array_equal(values, [[2.0, 1.0, LOWEST], [1.0, LOWEST, LOWEST]])


def test_top_k_has_static_shapes_in_a_graph() -> None:
    function = tf.function(lambda scores: exact_top_k(scores, 3))
    graph = function.get_concrete_function(tf.TensorSpec([2, 4100], tf.float32))
    assert [output.shape for output in graph.outputs] == [(2, 3), (2, 3)]


# --- metrics


def metrics_in_plain_python(hits: list[bool], num_held_out: int, k: int) -> dict[str, float]:
    ranks = [rank for rank, hit in enumerate(hits[:k], start=1) if hit]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(num_held_out, k) + 1))
    return {
        "recall": len(ranks) / num_held_out,
        "ndcg": sum(1 / math.log2(rank + 1) for rank in ranks) / ideal,
        "precision": len(ranks) / k,
        "hit_rate": float(bool(ranks)),
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "map": sum(n / rank for n, rank in enumerate(ranks, start=1)) / num_held_out,
    }


def test_metrics_by_hand() -> None:
    # Ranks 1 and 3 of 3 are hits, four items are held out, so the ideal has three hits.
    result = metrics_of_hits(np.array([[True, False, True]]), np.array([4]), 3)
    assert result["recall"] == [2 / 4]
    assert result["precision"] == [2 / 3]
    assert result["hit_rate"] == [1.0]
    assert result["mrr"] == [1.0]
    assert result["map"] == pytest.approx([(1 / 1 + 2 / 3) / 4])
    # The discounts of ranks 1, 2, 3 are 1, 1 / log2(3) and 1 / 2.
    assert result["ndcg"] == pytest.approx([(1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2)])


def test_metrics_of_a_late_single_hit_by_hand() -> None:
    result = metrics_of_hits(np.array([[False, False, True, False]]), np.array([1]), 4)
    assert result["mrr"] == result["map"] == pytest.approx([1 / 3])
    assert result["ndcg"] == pytest.approx([1 / 2])  # 1 / log2(4), the ideal being 1
    assert result["recall"] == [1.0]
    assert result["precision"] == [1 / 4]


def test_a_perfect_list_shorter_than_the_held_out_items() -> None:
    # NDCG's ideal is cut at k; recall and AP divide by all of the held-out items.
    result = metrics_of_hits(np.array([[True, True]]), np.array([5]), 2)
    assert result["ndcg"] == pytest.approx([1.0])
    assert result["recall"] == result["map"] == pytest.approx([2 / 5])


def test_without_a_hit_every_metric_is_zero() -> None:
    result = metrics_of_hits(np.zeros((1, 5), bool), np.array([3]), 5)
    assert result == {name: [0.0] for name in METRICS}


def test_hits_below_the_cutoff_do_not_count() -> None:
    hits = np.array([[False, True, True, True]])
    whole, cut = (metrics_of_hits(h, np.array([3]), 2) for h in (hits, hits[:, :2]))
    assert whole == cut


@pytest.mark.parametrize("k", [1, 2, 7, 12])
def test_metrics_are_those_of_the_plain_python_oracle(k: int) -> None:
    rng = np.random.default_rng(k)
    hits = rng.random((300, 12)) < rng.random((300, 1))
    counts = hits.sum(axis=1) + rng.integers(0, 20, 300)
    hits, counts = hits[counts > 0], counts[counts > 0]
    assert (counts > k).any()
    result = metrics_of_hits(hits, counts, k)
    assert tuple(result) == METRICS
    for row in range(len(hits)):
        wanted = metrics_in_plain_python(hits[row].tolist(), int(counts[row]), k)
        assert {name: result[name][row] for name in METRICS} == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_metrics_are_those_of_ir_measures(k: int) -> None:
    """To 1e-6. Its AP@k is trec_eval's map_cut: it too divides by all relevant documents."""
    rng = np.random.default_rng(k)
    num_users, num_items = 60, 40
    rankings = rng.permuted(np.tile(np.arange(num_items), (num_users, 1)), axis=1)[:, :15]
    relevant = [rng.choice(num_items, rng.integers(1, 25), replace=False) for _ in rankings]
    counts = np.array([len(items) for items in relevant])
    assert (counts > k).any()
    assert k == 1 or (counts < k).any()
    hits = np.array([np.isin(row, items) for row, items in zip(rankings, relevant, strict=True)])

    qrels = {f"u{u}": {f"i{i}": 1 for i in items} for u, items in enumerate(relevant)}
    run = {
        f"u{u}": {f"i{item}": float(-rank) for rank, item in enumerate(row)}
        for u, row in enumerate(rankings)
    }
    names = {
        R @ k: "recall",
        nDCG @ k: "ndcg",
        P @ k: "precision",
        Success @ k: "hit_rate",
        RR @ k: "mrr",
        AP @ k: "map",
    }
    ours = metrics_of_hits(hits, counts, k)
    compared = 0
    for metric in ir_measures.iter_calc(list(names), qrels, run):
        value = ours[names[metric.measure]][int(metric.query_id[1:])]
        assert value == pytest.approx(metric.value, abs=1e-6), metric
        compared += 1
    assert compared == num_users * len(METRICS)


# --- Ranker


# 300 users are three batches, the last padded. Up to 20 seen items of 3,000 leave the
# candidates to the block-wise top-k; up to all items of 70 do not.
@pytest.mark.parametrize(
    ("num_items", "most_seen", "k"), [(3000, 18, 5), (70, 70, 20), (70, 9, 70)]
)
def test_a_ranking_is_the_brute_force_sort(num_items: int, most_seen: int, k: int) -> None:
    rng = np.random.default_rng(0)
    degrees = rng.integers(0, most_seen + 1, 300)
    degrees[:3] = [0, 1, most_seen]
    model, seen = integer_model(300, num_items, seed=1), seen_by_degrees(degrees, num_items, seed=2)
    rankings = Ranker(model, seen, k).rank(np.arange(300))
    expected = brute_force(scores_of(model), seen, np.arange(300), k)
    np.testing.assert_array_equal(rankings.items, expected)
    np.testing.assert_array_equal(rankings.users, np.arange(300))
    assert (rankings.items.dtype, rankings.scores.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("at_once", [64, 100, 699])
def test_a_catalogue_ranked_part_by_part_is_ranked_as_a_whole(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_MOST_ITEMS_AT_ONCE", at_once)
    model = integer_model(9, 700, seed=at_once)
    seen = seen_by_degrees(np.arange(1, 10) * 20, 700, seed=0)
    ranked = Ranker(model, seen, 30).rank(np.arange(9))
    expected = brute_force(scores_of(model), seen, np.arange(9), 30)
    np.testing.assert_array_equal(ranked.items, expected)


@pytest.mark.parametrize("num_seen", range(20))
def test_however_many_items_the_user_saw_the_rest_is_ranked(num_seen: int) -> None:
    """The number of candidates depends on it; the best items are the seen ones, the worst case."""
    model = integer_model(1, 200, seed=3, largest=5)
    best = np.argsort(-scores_of(model)[0], kind="stable")
    seen = interactions([(0, item) for item in best[:num_seen].tolist()], 1, 200)
    items = Ranker(model, seen, 3).rank(np.array([0])).items
    expected = best[num_seen : num_seen + 3] if num_seen else [0, 1, 2]
    np.testing.assert_array_equal(items, [expected])


def test_equal_scores_are_ranked_by_index() -> None:
    model = MF(1, 500, dim=2)
    model.item_table.assign(tf.ones([500, 2]))
    seen = interactions([(0, 0), (0, 2), (0, 499)], 1, 500)
    assert Ranker(model, seen, 4).rank(np.array([0])).items.tolist() == [[1, 3, 4, 5]]


def test_batches_of_other_degrees_are_not_traced_anew() -> None:
    degrees = np.arange(600) % 29
    seen = seen_by_degrees(degrees, 30, seed=1)
    ranker = Ranker(integer_model(600, 30, seed=2), seen, 4)
    for first in range(0, 600, 100):  # of as many pairs each as no other has
        ranker.rank(np.argsort(degrees, kind="stable")[first : first + 100])
    assert ranker._graph.experimental_get_tracing_count() <= 2


def test_scores_stand_beside_their_items() -> None:
    degrees = np.array([0, 1, 5, 28, 30])
    model, seen = integer_model(5, 30, seed=4), seen_by_degrees(degrees, 30, seed=5)
    rankings = Ranker(model, seen, 4).rank(np.arange(5))
    expected = np.where(
        rankings.items >= 0,
        np.take_along_axis(scores_of(model), np.maximum(rankings.items, 0), axis=1),
        LOWEST,
    )
    expected[0] = seen.popularity[rankings.items[0]]
    np.testing.assert_array_equal(rankings.scores, expected)


def test_a_user_without_seen_pairs_gets_the_popularity_ranking() -> None:
    # Items 4, 1, 0 have 3, 2, 2 users, the others none.
    pairs = [(0, 4), (1, 4), (2, 4), (0, 1), (1, 1), (1, 0), (2, 0)]
    rankings = Ranker(integer_model(4, 6, seed=6), interactions(pairs, 4, 6), 6).rank(np.array([3]))
    assert rankings.items.tolist() == [[4, 0, 1, 2, 3, 5]]
    assert rankings.scores.tolist() == [[3, 2, 2, 0, 0, 0]]


def test_a_user_of_whom_nothing_was_learned_gets_the_most_popular_unseen_items() -> None:
    """As one whose only pairs but the test's are in the validation split."""
    learned = [(0, 4), (1, 4), (2, 4), (0, 1), (1, 1), (1, 0), (2, 0)]
    held_out = [(3, item) for item in (4, 0, 5)]
    model, seen = integer_model(4, 6, seed=6), interactions(learned + held_out, 4, 6)
    ranker = Ranker(model, seen, 4, learned=interactions(learned, 4, 6))
    rankings = ranker.rank(np.array([0, 3]))
    # Items 4, 0, 1, 5 have 4, 3, 2, 1 users by now, of which 4, 0 and 5 are the user's own.
    assert rankings.items[1].tolist() == [1, 2, 3, -1]
    assert rankings.scores[1].tolist() == [2, 0, 0, LOWEST]
    np.testing.assert_array_equal(
        rankings.items[:1], brute_force(scores_of(model), seen, np.array([0]), 4)
    )


def test_users_with_too_few_unseen_items_are_padded() -> None:
    everything = [(0, item) for item in range(6)]
    all_but_two = [(1, item) for item in (0, 1, 3, 5)]
    model = integer_model(2, 6, seed=7)
    rankings = Ranker(model, interactions(everything + all_but_two, 2, 6), 3).rank(np.arange(2))
    assert rankings.items[0].tolist() == [-1, -1, -1]
    assert sorted(rankings.items[1].tolist()) == [-1, 2, 4]
    assert rankings.items[1, 2] == -1
    assert rankings.scores[0].tolist() == [LOWEST] * 3


def test_users_are_ranked_in_the_order_given_repeats_included() -> None:
    degrees = np.random.default_rng(8).integers(0, 40, 200)
    model, seen = integer_model(200, 50, seed=9), seen_by_degrees(degrees, 50, seed=10)
    users = np.random.default_rng(11).integers(0, 200, 333)
    rankings = Ranker(model, seen, 7).rank(users)
    np.testing.assert_array_equal(rankings.users, users)
    np.testing.assert_array_equal(rankings.items, brute_force(scores_of(model), seen, users, 7))


def test_no_users_have_an_empty_ranking() -> None:
    ranker = Ranker(integer_model(2, 5, seed=0), interactions([(0, 1)], 2, 5), 3)
    rankings = ranker.rank(np.array([]))
    assert rankings.items.shape == rankings.scores.shape == (0, 3)


def test_without_any_seen_pair_all_users_get_the_smallest_indices() -> None:
    rankings = Ranker(integer_model(3, 9, seed=0), interactions([], 3, 9), 4).rank(np.arange(3))
    assert rankings.items.tolist() == [[0, 1, 2, 3]] * 3


def test_a_ranker_follows_the_model_and_keeps_no_old_scores() -> None:
    seen = seen_by_degrees(np.full(10, 4), 40, seed=12)
    model = integer_model(10, 40, seed=13)
    ranker = Ranker(model, seen, 5)
    before = ranker.rank(np.arange(10)).items
    model.item_table.assign(-model.item_table)
    after = ranker.rank(np.arange(10)).items
    np.testing.assert_array_equal(after, brute_force(scores_of(model), seen, np.arange(10), 5))
    assert (before != after).any()


class NearestItems(MF):
    """A score that is no dot product: minus the squared distance."""

    def score_all(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_sum(tf.square(users[:, None] - items[None]), axis=-1)


def test_the_model_says_what_a_score_is() -> None:
    rng = np.random.default_rng(14)
    model, seen = NearestItems(20, 30, dim=2), seen_by_degrees(np.full(20, 3), 30, seed=15)
    for table in (model.user_table, model.item_table):
        table.assign(rng.integers(-4, 5, table.shape).astype(np.float32))
    users, items = model.user_table.numpy(), model.item_table.numpy()
    scores = -np.square(users[:, None] - items[None]).sum(axis=-1)
    expected = brute_force(scores, seen, np.arange(20), 6)
    np.testing.assert_array_equal(Ranker(model, seen, 6).rank(np.arange(20)).items, expected)


@pytest.mark.parametrize("k", [-1, 0, 6])
def test_a_ranker_refuses_a_cutoff_outside_the_catalogue(k: int) -> None:
    with pytest.raises(InputError, match=f"between 1 and the 5 items.*received {k}"):
        Ranker(integer_model(2, 5, seed=0), interactions([(0, 1)], 2, 5), k)


def test_popularity_ranking_breaks_ties_by_index() -> None:
    seen = interactions([(0, 3), (1, 3), (0, 1), (1, 4), (2, 0), (2, 4)], 3, 6)
    popularity = seen.popularity  # items 3 and 4 have 2 users, 0 and 1 have 1, 2 and 5 none
    ranking = popularity_ranking(popularity)
    assert ranking.tolist() == [3, 4, 0, 1, 2, 5]
    assert ranking.dtype == np.int32


# --- Evaluator


def random_split(num_users: int, num_items: int, seed: int) -> tuple[Interactions, Interactions]:
    """Seen and held-out pairs without a pair in common; some users lack the one or the other."""
    rng = np.random.default_rng(seed)
    shares = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.8, 0.0, 0.2], [0.8, 0.2, 0.0]])
    kinds = np.stack(
        [rng.choice(3, num_items, p=shares[user % len(shares)]) for user in range(num_users)]
    )
    seen, held_out = (
        interactions(np.argwhere(kinds == kind).tolist(), num_users, num_items) for kind in (1, 2)
    )
    return seen, held_out


def test_the_evaluation_is_the_definition_averaged_over_users_with_held_out_items() -> None:
    seen, held_out = random_split(80, 60, seed=16)
    model = integer_model(80, 60, seed=17)
    evaluator = Evaluator(model, held_out, seen, [3, 10])
    users = [user for user in range(80) if len(held_out.row(user))]
    assert 0 < len(users) < 80
    assert (seen.degrees[users] == 0).any()  # they count, with the popularity ranking
    ranking = brute_force(scores_of(model), seen, users, 10)
    per_user, mean = evaluator.per_user(), evaluator.mean()
    assert evaluator.users.tolist() == users
    assert set(per_user) == {f"{name}@{k}" for name in METRICS for k in (3, 10)}
    for k in (3, 10):
        wanted = [
            metrics_in_plain_python(
                [item in set(held_out.row(user)) for item in row], len(held_out.row(user)), k
            )
            for user, row in zip(users, ranking.tolist(), strict=True)
        ]
        for name in METRICS:
            values = [row[name] for row in wanted]
            np.testing.assert_allclose(per_user[f"{name}@{k}"], values, atol=1e-12)
            assert mean[f"{name}@{k}"] == pytest.approx(sum(values) / len(users), abs=1e-12)


def test_a_cutoff_gives_the_same_whichever_others_are_asked_for() -> None:
    seen, held_out = random_split(30, 40, seed=18)
    model = integer_model(30, 40, seed=19)
    alone = Evaluator(model, held_out, seen, [5]).mean()
    together = Evaluator(model, held_out, seen, [20, 5, 1]).mean()
    assert alone == {name: value for name, value in together.items() if name.endswith("@5")}


def test_padding_is_never_a_hit() -> None:
    # User 1 saw all but item 0, so its second rank is padding. The pair before (1, 0) in
    # row-major order is (0, 4): -1 must not be taken for it.
    seen = interactions([(0, 0), *((1, item) for item in (1, 2, 3, 4))], 2, 5)
    held_out = interactions([(0, 4), (1, 0)], 2, 5)
    per_user = Evaluator(integer_model(2, 5, seed=20), held_out, seen, [2]).per_user()
    assert per_user["recall@2"][1] == 1.0
    assert per_user["precision@2"][1] == 1 / 2


def test_the_withheld_item_of_a_checkerboard_comes_first() -> None:
    # Even users like even items. User u did not see its item 2u mod 10 (+ 1 for odd users).
    model = MF(10, 10, dim=2)
    parity = np.eye(2, dtype=np.float32)[np.arange(10) % 2]
    model.user_table.assign(parity)
    model.item_table.assign(parity)
    withheld = [(user, (2 * user) % 10 + user % 2) for user in range(10)]
    liked = [(u, i) for u in range(10) for i in range(10) if u % 2 == i % 2]
    seen = interactions([pair for pair in liked if pair not in withheld], 10, 10)
    result = Evaluator(model, interactions(withheld, 10, 10), seen, [1]).mean()
    assert result == {f"{name}@1": 1.0 for name in METRICS}


@pytest.mark.parametrize("cutoffs", [[0], [5, 0], [6], [5, 6], [-1, 3]])
def test_an_evaluator_refuses_any_cutoff_outside_the_catalogue(cutoffs: list[int]) -> None:
    seen, held_out = interactions([(0, 1)], 2, 5), interactions([(0, 2)], 2, 5)
    with pytest.raises(InputError, match="between 1 and the 5 items"):
        Evaluator(integer_model(2, 5, seed=0), held_out, seen, cutoffs)


@pytest.mark.parametrize("which", ["held_out", "seen", "learned"])
def test_pairs_of_another_catalogue_are_refused(which: str) -> None:
    def pairs(num_items: int) -> Interactions:
        return Interactions.from_pairs([0], [1], num_users=3, num_items=num_items)

    given = {"held_out": pairs(5), "seen": pairs(5), "learned": pairs(5), which: pairs(4)}
    with pytest.raises(InputError, match="3 users and 5 items; received pairs of 3 users and 4"):
        Evaluator(MF(3, 5, dim=2), cutoffs=[1], **given)

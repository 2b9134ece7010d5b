"""The dataset made in code: fixed by its seed, with the structure that it says it has."""

from __future__ import annotations

import numpy as np
import pytest

from autosample_tf.errors import InputError
from autosample_tf.synthetic import _draw_items, synthetic


def test_it_is_the_same_on_every_machine():
    dataset = synthetic()
    assert dataset.counts() == {
        "users": 600,
        "items": 1200,
        "train": 24097,
        "test": 6026,
        "test_items_never_in_train": 2,
    }
    assert dataset.checksum() == "c2520555f9fd624522fca2801bf93eafe53737c6c13c5b91ea41471d92eed47e"


def test_another_seed_draws_another():
    small = {"num_users": 30, "num_items": 40, "mean_pairs": 8}
    checksums = {synthetic(seed=seed, **small).checksum() for seed in (0, 1, 2, 0)}
    assert len(checksums) == 3


def test_ids_and_splits_fit_the_catalogue():
    dataset = synthetic(20, 30, mean_pairs=6)
    assert dataset.user_ids.tolist() == [f"u{user}" for user in range(20)]
    assert dataset.item_ids.tolist() == [f"i{item}" for item in range(30)]
    assert not dataset.train.contains(dataset.test.users, dataset.test.items).any()


def test_no_user_has_more_than_half_of_the_items():
    dataset = synthetic(200, 12, mean_pairs=50)
    degrees = dataset.train.union(dataset.test).degrees
    assert degrees.min() >= 5
    assert degrees.max() == 6


def test_popularity_falls_off_with_the_exponent():
    def share_of_top_tenth(exponent):
        popularity = synthetic(zipf_exponent=exponent, taste=0).train.popularity
        return np.sort(popularity)[-120:].sum() / popularity.sum()

    # Without Zipf every item has the same chance, and only noise parts them.
    assert share_of_top_tenth(0) < 0.17
    assert share_of_top_tenth(0.7) > 0.3


def test_popular_items_are_not_those_of_small_index():
    popularity = synthetic().train.popularity
    assert abs(np.corrcoef(popularity, np.arange(len(popularity)))[0, 1]) < 0.1


def recall_at_20(dataset, scores):
    """Mean over users of the share of test items among the 20 best that train has not."""
    shares = []
    for user in np.flatnonzero(dataset.test.degrees):
        ranked = np.argsort(-scores[user], kind="stable")
        ranked = ranked[~np.isin(ranked, dataset.train.row(user))]
        test = dataset.test.row(user)
        shares.append(np.isin(ranked[:20], test).sum() / len(test))
    return np.mean(shares)


def test_tastes_can_be_learned():
    dataset = synthetic()
    seen = np.zeros((dataset.num_users, dataset.num_items))
    seen[dataset.train.users, dataset.train.items] = 1
    popular = np.tile(dataset.train.popularity, (dataset.num_users, 1))
    # The best approximation of rank 7: onto the 7 leading left singular vectors of `seen`.
    leading = np.linalg.eigh(seen @ seen.T).eigenvectors[:, -7:]
    approximation = leading @ (leading.T @ seen)
    assert recall_at_20(dataset, approximation) > 1.3 * recall_at_20(dataset, popular)


def test_items_are_drawn_by_their_odds_without_replacement():
    # Two of three items with odds 1 : 2 : 5. By hand, P(item 2 is left out) =
    # 1/8 · 2/7 + 2/8 · 1/6 = 0.0774; P(1 out) = 1/8 · 5/7 + 5/8 · 1/3 = 0.2976.
    draws = 20_000
    scores = np.log(np.tile([1.0, 2.0, 5.0], (draws, 1)))
    uniforms = np.random.default_rng(0).uniform(1e-12, 1, (draws, 3))
    users, items = _draw_items(scores, np.full(draws, 2), uniforms)
    assert users.tolist() == [user for user in range(draws) for _ in range(2)]
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == 2 * draws
    left_out = 1 - np.bincount(items) / draws
    assert left_out == pytest.approx([0.625, 0.2976, 0.0774], abs=0.015)


@pytest.mark.parametrize(
    "sizes", [{"num_users": 0}, {"num_items": 9}, {"mean_pairs": 4}, {"num_factors": 0}]
)
def test_sizes_that_leave_nothing_to_draw_are_refused(sizes):
    with pytest.raises(InputError, match="at least 1 user, 10 items"):
        synthetic(**sizes)

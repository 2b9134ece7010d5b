"""Exact full ranking over the catalogue, and the metrics of it.

Ranking needs, for each user, the best k items that the user has not seen; ties go to the
smaller item index. Two things make it cheap and keep it exact: the best k lie within the
k best blocks of items by block maximum, so only those are sorted; and seen items are marked
in the scores pair by pair, in one graph for all users. To rank as many items more as a user
has seen, and drop those, took a quarter more CPU time on gowalla, and a graph for every number.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.models import Recommender
from autosample_tf.models.contract import State
from autosample_tf.representations import Representations

_USERS_PER_BATCH = 128  # score blocks that stay in cache: larger ones are slower
_MOST_BATCHES_AT_ONCE = 4  # each holds a score of every item: memory grows with them
_ITEMS_PER_BLOCK = 64
_MOST_ITEMS_AT_ONCE = 1 << 18  # scores of more items are made and ranked a part at a time
METRICS = ("recall", "ndcg", "precision", "hit_rate", "mrr", "map")


@dataclasses.dataclass(frozen=True, eq=False)
class Rankings:
    """The best unseen items of some users, best first.

    Attributes:
      users: [n] int32.
      items: [n, k] int32; -1 where a user has fewer than k unseen items.
      scores: [n, k] float32; the lowest finite value beside a -1.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray


def check_cutoffs(cutoffs: Sequence[int], num_items: int) -> None:
    """Refuses a cutoff below 1 or above the catalogue's size with an `InputError`."""
    for k in cutoffs:
        if not 1 <= k <= num_items:
            raise expected(
                f"a top-k between 1 and the {num_items} items of the catalogue",
                received=k,
                remedy="Choose another --top-k.",
            )


def check_sizes(pairs: Pairs, model: Recommender | Representations) -> None:
    """Refuses pairs of other users or items than a model's with an `InputError`."""
    sizes, own = (pairs.num_users, pairs.num_items), (model.num_users, model.num_items)
    if sizes != own:
        raise expected(
            f"pairs of the model's {own[0]:,} users and {own[1]:,} items",
            received=f"pairs of {sizes[0]:,} users and {sizes[1]:,} items",
            remedy="Make them with the model's num_users and num_items.",
        )


class Ranker:
    """Ranks the catalogue for users as the model's parameters stand; reusable, so traced once.

    Args:
      model: of which `propagate` is called once a ranking; or its representations.
      seen: the items of each user to leave out.
      k: how many items to rank, in [1, num_items].
      learned: the pairs that the model learned from; None: those of `seen`.
      popularity: [num_items], what users of whom nothing was learned are ranked by; None:
        how many users an item has in `seen`.

    Raises:
      InputError: if k is out of range.
    """

    def __init__(
        self,
        model: Recommender | Representations,
        seen: Interactions,
        k: int,
        learned: Interactions | None = None,
        popularity: np.ndarray | None = None,
    ):
        check_cutoffs([k], model.num_items)
        self._model, self._seen, self._k = model, seen, k
        self._popularity = seen.popularity if popularity is None else popularity
        self._learned = seen if learned is None else learned
        padding = -model.num_items % _ITEMS_PER_BLOCK
        self._padding = [[0, padding], [0, 0]]
        self._padded = _every_pair(_USERS_PER_BATCH, model.num_items, padding)
        # Batches differ in how many pairs they leave out: without this, each is traced anew.
        self._graph = tf.function(self._ranked, reduce_retracing=True)

    def rank(self, users: np.ndarray) -> Rankings:
        """The best unseen items of each of `users` [n], in the order given.

        A user without a pair that the model learned from has no representation worth ranking
        by, and gets the most popular unseen items, an item's popularity being its score.
        """
        users = np.asarray(users, np.int32)
        items = np.full((len(users), self._k), -1, np.int32)
        scores = np.full((len(users), self._k), tf.float32.min, np.float32)
        state = tf.nest.map_structure(tf.convert_to_tensor, self._model.propagate())
        catalogue = self._model.items(state, tf.range(self._model.num_items))
        catalogue = tf.pad(catalogue, self._padding)  # once, not the scores of every batch

        def rank_batch(first: int) -> None:
            places = slice(first, first + _USERS_PER_BATCH)
            batch = np.resize(users[places], _USERS_PER_BATCH)  # one shape
            found = self._graph(state, catalogue, batch, self._left_out(batch))
            best, best_scores = (part.numpy() for part in found)
            items[places] = best[: len(users) - first]
            scores[places] = best_scores[: len(users) - first]

        # A batch for each core keeps them busier than all cores at one batch, whose top k is
        # one core's work in part.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_BATCHES_AT_ONCE)) as threads:
            list(threads.map(rank_batch, range(0, len(users), _USERS_PER_BATCH)))
        self._rank_by_popularity(users, items, scores)
        return Rankings(users, items, scores)

    def beside(self, seen: Interactions, learned: Interactions) -> Ranker:
        """The same, traced already, with other pairs seen and learned from."""
        other = copy.copy(self)
        other._seen, other._learned = seen, learned
        return other

    def _left_out(self, users: np.ndarray) -> tf.Tensor:
        """[n, 2] int32: the rows of a batch of users, and items that are not to be ranked."""
        degrees = self._seen.degrees[users]
        rows = np.repeat(np.arange(len(users)), degrees)
        begins = np.cumsum(degrees) - degrees
        within = np.arange(len(rows)) - begins[rows]
        items = self._seen.items[self._seen.offsets[users[rows]] + within]
        seen = np.stack([rows, items], axis=1).astype(np.int32)
        return tf.constant(np.concatenate([seen, self._padded]))

    def _rank_by_popularity(self, users: np.ndarray, items: np.ndarray, scores: np.ndarray) -> None:
        """Overwrites the rankings of the users of whom nothing was learned."""
        cold = np.flatnonzero(self._learned.degrees[users] == 0)
        if not len(cold):
            return  # without sorting a catalogue for nobody, in every epoch
        popular = popularity_ranking(self._popularity)
        for place in cold:
            own = self._seen.row(users[place])
            candidates = popular[: self._k + len(own)]
            unseen = candidates[~np.isin(candidates, own)][: self._k]
            items[place], scores[place] = -1, tf.float32.min
            items[place, : len(unseen)] = unseen
            scores[place, : len(unseen)] = self._popularity[unseen]

    def _ranked(
        self, state: State, catalogue: tf.Tensor, users: tf.Tensor, left_out: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The graph: items [batch, k] of a batch of users, and their scores."""
        rows = self._model.users(state, users)
        values, items = _best_of_catalogue(self._model, rows, catalogue, left_out, self._k)
        return tf.where(values > tf.float32.min, items, -1), values


def _best_of_catalogue(
    model: Recommender | Representations,
    users: tf.Tensor,
    catalogue: tf.Tensor,
    left_out: tf.Tensor,
    k: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `best_beside` of all scores, of which no more than some are there at a time.

    Args:
      model: whose scores.
      users: [batch, dim].
      catalogue: [num_items, dim].
      left_out: [n, 2] int32: rows of the batch, and items.
      k: in [1, num_items].
    """
    if catalogue.shape[0] <= _MOST_ITEMS_AT_ONCE:
        return best_beside(model.score_all(users, catalogue), left_out, k)
    values: list[tf.Tensor] = []
    items: list[tf.Tensor] = []
    for first in range(0, catalogue.shape[0], _MOST_ITEMS_AT_ONCE):
        with tf.control_dependencies(values[-1:]):  # one part after another
            part = tf.identity(catalogue[first : first + _MOST_ITEMS_AT_ONCE])
            places = left_out - [0, first]
            inside = (places[:, 1] >= 0) & (places[:, 1] < part.shape[0])
            scores = model.score_all(users, part)
            best, here = best_beside(scores, tf.boolean_mask(places, inside), min(k, part.shape[0]))
        values.append(best)
        items.append(first + here)
    best, here = tf.math.top_k(tf.concat(values, axis=1), k)
    return best, tf.gather(tf.concat(items, axis=1), here, batch_dims=1)


def best_beside(
    scores: tf.Tensor, left_out: tf.Tensor, k: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k largest of each row as `exact_top_k` has them, but for some elements.

    Args:
      scores: [batch, num_items] float32.
      left_out: [n, 2] integers: rows and items; a pair may come twice.
      k: in [1, num_items].

    Returns:
      values [batch, k], the lowest finite one where there are no more, and items [batch, k]
      int32, anything there.
    """
    lowest = tf.fill([tf.shape(left_out)[0]], tf.float32.min)
    return exact_top_k(tf.tensor_scatter_nd_update(scores, left_out, lowest), k)


def _every_pair(num_rows: int, first: int, number: int) -> np.ndarray:
    """[num_rows * number, 2] int32: each row with so many items from `first` on."""
    rows, items = np.indices((num_rows, number), np.int32)
    return np.stack([rows.ravel(), first + items.ravel()], axis=1)


def exact_top_k(scores: tf.Tensor, k: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The k largest of each row, largest first, ties to the smaller index.

    As `tf.math.top_k`, several times as fast where k is far below the rows' length: a
    block of columns ahead of another by (maximum, index) holds an element ahead of all of
    the other's, so the k best elements lie within the k best blocks.

    Args:
      scores: [batch, n] float32; n is static, batch need not be.
      k: in [1, n], a number or a scalar int32 tensor.

    Returns:
      values [batch, k] and indices [batch, k] int32.
    """
    pays = 2 * k < -(-scores.shape[1] // _ITEMS_PER_BLOCK)
    if tf.is_tensor(pays):
        return tf.cond(
            pays, lambda: _top_k_of_blocks(scores, k), lambda: (*tf.math.top_k(scores, k),)
        )
    return _top_k_of_blocks(scores, k) if pays else tf.math.top_k(scores, k)


def _top_k_of_blocks(scores: tf.Tensor, k: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    n = scores.shape[1]
    num_blocks = -(-n // _ITEMS_PER_BLOCK)
    if padding := num_blocks * _ITEMS_PER_BLOCK - n:
        scores = tf.pad(scores, [[0, 0], [0, padding]], constant_values=-np.inf)
    blocks = tf.reshape(scores, [-1, num_blocks, _ITEMS_PER_BLOCK])
    best_blocks = tf.math.top_k(tf.reduce_max(blocks, axis=2), k).indices
    best_blocks = tf.sort(best_blocks, axis=1)  # ascending again, so that ties stay in order
    kept = tf.gather(blocks, best_blocks, batch_dims=1)  # [batch, k, block]
    values, places = tf.math.top_k(tf.reshape(kept, [-1, k * _ITEMS_PER_BLOCK]), k)
    block = tf.gather(best_blocks, places // _ITEMS_PER_BLOCK, batch_dims=1)
    return values, block * _ITEMS_PER_BLOCK + places % _ITEMS_PER_BLOCK


def metrics_of_hits(hits: np.ndarray, num_held_out: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Each user's metrics at a cutoff, from which ranks are held-out items.

    Recall is hits / |held-out| (not / min(|held-out|, k)); NDCG has binary gains and its
    ideal cut at min(|held-out|, k); precision is hits / k; MRR is 1 / rank of the first
    hit; AP is the sum of precisions at the hits / |held-out| (RecBole divides by
    min(|held-out|, k)).

    Args:
      hits: [num_users, at least k] bool, best rank first.
      num_held_out: [num_users], each at least 1.
      k: the cutoff.

    Returns:
      [num_users] float64 by metric name, without the cutoff.
    """
    hits = hits[:, :k].astype(np.float64)
    ranks = np.arange(1, k + 1)
    gains = 1.0 / np.log2(ranks + 1.0)
    ideal = np.cumsum(gains)[np.minimum(num_held_out, k) - 1]
    count = hits.sum(axis=1)
    hit = count > 0
    first = np.where(hit, hits.argmax(axis=1) + 1, 1)
    return {
        "recall": count / num_held_out,
        "ndcg": hits @ gains / ideal,
        "precision": count / k,
        "hit_rate": hit.astype(np.float64),
        "mrr": hit / first,
        "map": (hits * np.cumsum(hits, axis=1) / ranks).sum(axis=1) / num_held_out,
    }


class Evaluator:
    """Metrics of a model on held-out pairs; reusable from epoch to epoch.

    Args:
      model: what is ranked by.
      held_out: the pairs to find; users without one are left out of every average.
      seen: the pairs left out of the rankings.
      cutoffs: the ks of `metric@k`.
      learned: the pairs that the model learned from; None: those of `seen`.

    Raises:
      InputError: for a cutoff out of range, or pairs of other users and items than the model's.
    """

    def __init__(
        self,
        model: Recommender | Representations,
        held_out: Pairs,
        seen: Pairs,
        cutoffs: Sequence[int],
        learned: Pairs | None = None,
    ):
        check_cutoffs(cutoffs, model.num_items)
        for pairs in (held_out, seen, *([] if learned is None else [learned])):
            check_sizes(pairs, model)
        self._model, self._seen = model, seen
        self._learned = seen if learned is None else learned
        self._ranker: Ranker | None = None  # of the part that was ranked first
        self._held_out, self._cutoffs = held_out, cutoffs
        self.users = np.flatnonzero(held_out.degrees)  # [n], in the order of `per_user`

    def per_user(self) -> dict[str, np.ndarray]:
        """[n] float64 by `metric@k`, for the users in `self.users`."""
        metrics = {
            f"{name}@{k}": np.zeros(len(self.users)) for k in self._cutoffs for name in METRICS
        }
        for held_out, seen, learned in self._held_out.parts(self._seen, self._learned):
            users = np.flatnonzero(held_out.degrees)
            items = self._ranker_of(seen, learned).rank(users).items
            hits = held_out.contains(users[:, None], items)
            places = np.searchsorted(self.users, users)
            for k in self._cutoffs:
                for name, values in metrics_of_hits(hits, held_out.degrees[users], k).items():
                    metrics[f"{name}@{k}"][places] = values
        return metrics

    def _ranker_of(self, seen: Interactions, learned: Interactions) -> Ranker:
        if self._ranker is None:
            k, popularity = max(self._cutoffs), self._seen.popularity
            self._ranker = Ranker(self._model, seen, k, learned, popularity)
        return self._ranker.beside(seen, learned)

    def mean(self) -> dict[str, float]:
        """The average over users of each `metric@k`."""
        return {name: float(values.mean()) for name, values in self.per_user().items()}


def popularity_ranking(popularity: np.ndarray) -> np.ndarray:
    """[num_items] int32: items by falling popularity, ties to the smaller index."""
    return np.argsort(-popularity, kind="stable").astype(np.int32)

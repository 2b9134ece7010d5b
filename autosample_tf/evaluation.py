"""Exact full ranking over the catalogue, and the metrics of it.

Ranking needs, for each user, the best k items that the user has not seen; ties go to the
smaller item index. Three facts make it cheap and keep it exact: the best k lie within the
k best blocks of items by block maximum, so only those are sorted; among the best
k + (number of seen items) at least k are unseen, so nothing is masked in the score
matrix; and users of like degree share a batch, so that number stays small.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions
from autosample_tf.membership import PairSet
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


def _batches_of_like_degree(
    degrees: np.ndarray, k: int, num_items: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Places of users to rank together, and how many candidates suffice for all of them.

    Widths are k plus a power of two, so that few of them are traced.
    """
    order = np.argsort(degrees, kind="stable")
    for start in range(0, len(order), _USERS_PER_BATCH):
        places = order[start : start + _USERS_PER_BATCH]
        most_seen = int(degrees[places[-1]])
        yield places, min(num_items, k + (1 << (most_seen - 1).bit_length() if most_seen else 0))


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
        self._pairs = PairSet(seen)
        self._graphs: dict[int, tf.types.experimental.PolymorphicFunction] = {}

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
        degrees = self._seen.degrees[users]

        def rank_batch(places_and_width: tuple[np.ndarray, int]) -> None:
            places, width = places_and_width
            batch = tf.constant(np.resize(users[places], _USERS_PER_BATCH))  # one shape
            best, best_scores = self._graph(width)(state, catalogue, batch)
            items[places] = best.numpy()[: len(places)]
            scores[places] = best_scores.numpy()[: len(places)]

        batches = _batches_of_like_degree(degrees, self._k, self._model.num_items)
        # A batch for each core keeps them busier than all cores at one batch, whose top k is
        # one core's work in part.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_BATCHES_AT_ONCE)) as threads:
            list(threads.map(rank_batch, batches))
        self._rank_by_popularity(users, items, scores)
        return Rankings(users, items, scores)

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

    def _graph(self, width: int) -> tf.types.experimental.PolymorphicFunction:
        """The graph that ranks a batch from `width` candidates a user, made once a width."""

        @tf.function
        def ranked(
            state: State, catalogue: tf.Tensor, users: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            rows = self._model.users(state, users)
            values, candidates = _best_of_catalogue(self._model, rows, catalogue, width)
            unseen = ~self._pairs.contains(users, candidates)
            return first_marked(candidates, values, unseen, self._k)

        return self._graphs.setdefault(width, ranked)


def _best_of_catalogue(
    model: Recommender | Representations, users: tf.Tensor, catalogue: tf.Tensor, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `exact_top_k` of all scores, of which no more than some are there at a time.

    Args:
      model: whose scores.
      users: [batch, dim].
      catalogue: [num_items, dim].
      k: in [1, num_items].
    """
    values: list[tf.Tensor] = []
    items: list[tf.Tensor] = []
    for first in range(0, catalogue.shape[0], _MOST_ITEMS_AT_ONCE):
        with tf.control_dependencies(values[-1:]):  # one part after another
            part = tf.identity(catalogue[first : first + _MOST_ITEMS_AT_ONCE])
            best, places = exact_top_k(model.score_all(users, part), min(k, part.shape[0]))
        values.append(best)
        items.append(first + places)
    if len(values) == 1:
        return values[0], items[0]
    best, places = tf.math.top_k(tf.concat(values, axis=1), k)
    return best, tf.gather(tf.concat(items, axis=1), places, batch_dims=1)


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
    padding = num_blocks * _ITEMS_PER_BLOCK - n
    padded = tf.pad(scores, [[0, 0], [0, padding]], constant_values=-np.inf)
    blocks = tf.reshape(padded, [-1, num_blocks, _ITEMS_PER_BLOCK])
    best_blocks = tf.math.top_k(tf.reduce_max(blocks, axis=2), k).indices
    best_blocks = tf.sort(best_blocks, axis=1)  # ascending again, so that ties stay in order
    kept = tf.gather(blocks, best_blocks, batch_dims=1)  # [batch, k, block]
    values, places = tf.math.top_k(tf.reshape(kept, [-1, k * _ITEMS_PER_BLOCK]), k)
    block = tf.gather(best_blocks, places // _ITEMS_PER_BLOCK, batch_dims=1)
    return values, block * _ITEMS_PER_BLOCK + places % _ITEMS_PER_BLOCK


def first_marked(
    items: tf.Tensor, scores: tf.Tensor, marked: tf.Tensor, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The first k marked columns of each row, in their order; -1 and lowest where fewer.

    Args:
      items: [batch, n] int32.
      scores: [batch, n].
      marked: [batch, n] bool.
      k: at most n.
    """
    width = items.shape[1]
    order = tf.where(marked, tf.range(width, 0, -1)[None, :], 0)
    left, columns = tf.math.top_k(order, k)
    found = left > 0
    chosen = tf.gather(items, columns, batch_dims=1)
    values = tf.gather(scores, columns, batch_dims=1)
    return tf.where(found, chosen, -1), tf.where(found, values, scores.dtype.min)


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
    """

    def __init__(
        self,
        model: Recommender,
        held_out: Interactions,
        seen: Interactions,
        cutoffs: Sequence[int],
        learned: Interactions | None = None,
    ):
        self._ranker = Ranker(model, seen, max(cutoffs), learned)
        check_cutoffs(cutoffs, model.num_items)
        self._held_out, self._cutoffs = held_out, cutoffs
        self.users = np.flatnonzero(held_out.degrees)  # [n], in the order of `per_user`

    def per_user(self) -> dict[str, np.ndarray]:
        """[n] float64 by `metric@k`, for the users in `self.users`."""
        items = self._ranker.rank(self.users).items
        hits = self._held_out.contains(self.users[:, None], items) & (items >= 0)
        counts = self._held_out.degrees[self.users]
        return {
            f"{name}@{k}": values
            for k in self._cutoffs
            for name, values in metrics_of_hits(hits, counts, k).items()
        }

    def mean(self) -> dict[str, float]:
        """The average over users of each `metric@k`."""
        return {name: float(values.mean()) for name, values in self.per_user().items()}


def popularity_ranking(popularity: np.ndarray) -> np.ndarray:
    """[num_items] int32: items by falling popularity, ties to the smaller index."""
    return np.argsort(-popularity, kind="stable").astype(np.int32)

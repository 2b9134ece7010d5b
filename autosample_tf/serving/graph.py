"""The graph that serves a trained model: ids in, ids out, without this package.

It holds TensorFlow's own ops alone, so TensorFlow Serving, the C API and `saved_model_cli`
run it. TFRS's `factorized_top_k.BruteForce` is not used: it has no way to leave out what a
user has seen but asking for more items than k and dropping them, as many more as the user
with the most has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from autosample_tf.evaluation import best_beside
from autosample_tf.interactions import Interactions
from autosample_tf.representations import Representations
from autosample_tf.serving.quantization import ItemTable

_ROWS_PER_BLOCK = 128  # bounds the memory of a large request: a row of scores each
_LOWEST = tf.float32.min
_USER_ID = tf.TensorSpec([None], tf.string, "user_id")
_ITEM_ID = tf.TensorSpec([None], tf.string, "item_id")
_K = tf.TensorSpec([], tf.int32, "k")
_EXCLUDE_ITEM_ID = tf.TensorSpec([None, None], tf.string, "exclude_item_id")
Answer = dict[str, tf.Tensor]


class Server(tf.Module):
    """The exported graph and its tables.

    Vectors and seen items are variables, stored apart from the graph, whose file cannot grow
    past 2 GB; ids are constants of it, each there once.

    Rows of an answer are padded with an empty id and the lowest finite float32.

    Args:
      representations: what is scored.
      seen: the items of each user to leave out.
      user_ids: [num_users] str.
      item_ids: [num_items] str.
      k: how many items `serve` ranks, in [1, num_items].
      learned: the pairs that the model learned from; None: those of `seen`.
      quantize: how item vectors are stored, see `ItemTable`.
    """

    def __init__(
        self,
        representations: Representations,
        seen: Interactions,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        k: int,
        learned: Interactions | None = None,
        quantize: str | None = None,
    ):
        super().__init__(name="server")
        self._k, self._num_items = k, representations.num_items
        self._score_all = representations.score_all
        self._users = _stored(representations.user_vectors, "users")
        self._items = ItemTable(representations.item_vectors, quantize)
        items = self._items.all()
        scored = tf.function(self._score_all).get_concrete_function(self._users, items)
        self._of_scores = scored.variables  # else what a score learned would not be saved
        self._norms = _stored(tf.norm(items, axis=1), "norms")
        self._seen_offsets = _stored(seen.offsets, "seen_offsets")
        self._seen_items = _stored(seen.items, "seen_items")
        degrees = (seen if learned is None else learned).degrees
        self._is_learned = _stored(degrees > 0, "is_learned")
        self._popularity = _stored(seen.popularity.astype(np.float32), "popularity")
        self._item_ids = tf.constant(item_ids.tolist())
        self._user_ids = tf.constant(user_ids.tolist())
        self._item_places, self._user_places = _places(self._item_ids), _places(self._user_ids)

    @property
    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """What a SavedModel offers, by name."""
        return {
            "serving_default": self.serve,
            "recommend": self.recommend,
            "similar_items": self.similar_items,
            "score": self.score,
            "embed_user": self.embed_user,
            "embed_item": self.embed_item,
        }

    def item_vectors(self) -> tf.Tensor:
        """The vectors of items as they are scored: [num_items, dim] float32."""
        return self._items.all()

    def table_bytes(self) -> int:
        """What the tables take, ids as text among them, without the graph that reads them."""
        variables = sum(v.dtype.size * v.shape.num_elements() for v in self.variables)
        ids = sum(
            int(tf.reduce_sum(tf.strings.length(ids))) for ids in (self._user_ids, self._item_ids)
        )
        return variables + ids

    @tf.function(input_signature=[_USER_ID])
    def serve(self, user_id: tf.Tensor) -> Answer:
        """The best unseen items of users [batch]: `item_id` and `score` [batch, k], `known`."""
        users = _found(self._user_places, user_id)
        nothing = tf.zeros([tf.size(users), 0], tf.int32)
        return self._recommended(users, nothing, self._k)

    @tf.function(input_signature=[_USER_ID, _K, _EXCLUDE_ITEM_ID])
    def recommend(self, user_id: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor) -> Answer:
        """As `serve`, with a k of the request's own and more items left out.

        Args:
          user_id: [batch].
          k: scalar, at least 1; cut to the size of the catalogue.
          exclude_item_id: [batch, any]; ids that are not known are passed over, so rows
            can be padded.
        """
        users = _found(self._user_places, user_id)
        same = tf.debugging.assert_equal(
            tf.shape(exclude_item_id)[0], tf.size(users), "exclude_item_id needs a row a user_id"
        )
        with tf.control_dependencies([same]):
            excluded = self._item_places.lookup(exclude_item_id)
        return self._recommended(users, excluded, self._cut(k))

    @tf.function(input_signature=[_ITEM_ID, _K])
    def similar_items(self, item_id: tf.Tensor, k: tf.Tensor) -> Answer:
        """The items whose vectors have the largest cosine with each of items [batch].

        Itself is left out. An item that is not known gets none.
        """
        items, k = _found(self._item_places, item_id), self._cut(k)
        found = _in_blocks(lambda rows: self._similar(items[rows], k), tf.size(items), k)
        return self._answer(*found, items >= 0)

    @tf.function(input_signature=[_USER_ID, _ITEM_ID])
    def score(self, user_id: tf.Tensor, item_id: tf.Tensor) -> Answer:
        """The scores [batch] that `serve` ranks by, of users with items, one with one.

        Seen items have theirs too. Of a user who is not known, or of whom no pair was trained on,
        it is the item's popularity; of an item that is not known the lowest finite float32.
        `known` [batch] is whether both are.
        """
        users, items = _found(self._user_places, user_id), _found(self._item_places, item_id)
        same = tf.debugging.assert_equal(
            tf.size(users), tf.size(items), "user_id and item_id need the same length"
        )
        with tf.control_dependencies([same]):
            user_rows, item_rows = tf.maximum(users, 0), tf.maximum(items, 0)
        user_vectors = tf.gather(self._users, user_rows)[:, None]  # [batch, 1, dim]
        item_vectors = self._items.rows(item_rows)[:, None]
        scores = self._score_all(user_vectors, item_vectors)[:, 0, 0]
        popularity = tf.gather(self._popularity, item_rows)
        scores = tf.where(self._is_trained(users), scores, popularity)
        known = (users >= 0) & (items >= 0)
        return {"score": tf.where(items >= 0, scores, _LOWEST), "known": known}

    @tf.function(input_signature=[_USER_ID])
    def embed_user(self, user_id: tf.Tensor) -> Answer:
        """The vectors of users: `embedding` [batch, dim], zeros where they are not known."""
        users = _found(self._user_places, user_id)
        return _embedded(tf.gather(self._users, tf.maximum(users, 0)), users >= 0)

    @tf.function(input_signature=[_ITEM_ID])
    def embed_item(self, item_id: tf.Tensor) -> Answer:
        """Likewise of items."""
        items = _found(self._item_places, item_id)
        return _embedded(self._items.rows(tf.maximum(items, 0)), items >= 0)

    def _cut(self, k: tf.Tensor) -> tf.Tensor:
        positive = tf.debugging.assert_positive(k, "k needs to be at least 1")
        with tf.control_dependencies([positive]):
            return tf.minimum(k, self._num_items)

    def _recommended(self, users: tf.Tensor, excluded: tf.Tensor, k: int | tf.Tensor) -> Answer:
        def ranked(rows: slice) -> tuple[tf.Tensor, tf.Tensor]:
            return self._ranked(users[rows], excluded[rows], k)

        return self._answer(*_in_blocks(ranked, tf.size(users), k), users >= 0)

    def _answer(self, items: tf.Tensor, scores: tf.Tensor, known: tf.Tensor) -> Answer:
        ids = tf.gather(self._item_ids, tf.maximum(items, 0))
        return {"item_id": tf.where(items >= 0, ids, ""), "score": scores, "known": known}

    def _ranked(
        self, users: tf.Tensor, excluded: tf.Tensor, k: int | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Items [batch, k] int32, -1 past the last, and their scores."""
        is_trained = self._is_trained(users)
        vectors = tf.gather(self._users, tf.maximum(users, 0))
        scores = self._score_all(vectors, self._items.all())
        scores = tf.cond(
            tf.reduce_all(is_trained),
            lambda: scores,
            lambda: tf.where(is_trained[:, None], scores, self._popularity[None, :]),
        )
        left_out = tf.concat([self._seen_pairs(users), _pairs(excluded)], axis=0)
        return _best(scores, left_out, k)

    def _is_trained(self, users: tf.Tensor) -> tf.Tensor:
        """[batch] bool: whether something was learned of a user, so that there is a score."""
        return (users >= 0) & tf.gather(self._is_learned, tf.maximum(users, 0))

    def _seen_pairs(self, users: tf.Tensor) -> tf.Tensor:
        """[num_seen, 2] int64: each row's seen items; a user that is not known has none."""
        rows = tf.maximum(users, 0)
        begins = tf.gather(self._seen_offsets, rows)
        ends = tf.where(users >= 0, tf.gather(self._seen_offsets, rows + 1), begins)
        places = tf.ragged.range(begins, ends)
        items = tf.cast(tf.gather(self._seen_items, places.flat_values), tf.int64)
        return tf.stack([places.value_rowids(), items], axis=1)

    def _similar(self, items: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows, is_known = tf.maximum(items, 0), (items >= 0)[:, None]
        products = tf.matmul(self._items.rows(rows), self._items.all(), transpose_b=True)
        norms = tf.gather(self._norms, rows)[:, None] * self._norms[None, :]
        best, scores = _best(tf.math.divide_no_nan(products, norms), _pairs(items[:, None]), k)
        return tf.where(is_known, best, -1), tf.where(is_known, scores, _LOWEST)


def _in_blocks(
    rank: Callable[[slice], tuple[tf.Tensor, tf.Tensor]], num_rows: tf.Tensor, k: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """What `rank` answers for a few rows at a time, one after another: of all [num_rows, k]."""
    num_blocks = tf.maximum(1, -(-num_rows // _ROWS_PER_BLOCK))
    shape = [None, k if isinstance(k, int) else None]
    blocks = [
        tf.TensorArray(dtype, num_blocks, infer_shape=False, element_shape=shape)
        for dtype in (tf.int32, tf.float32)
    ]

    def rank_block(block: tf.Tensor, *done: tf.TensorArray) -> tuple:
        start = block * _ROWS_PER_BLOCK
        found = rank(slice(start, start + _ROWS_PER_BLOCK))
        return block + 1, *(d.write(block, f) for d, f in zip(done, found, strict=True))

    _, *blocks = tf.while_loop(
        lambda block, *_: block < num_blocks,
        rank_block,
        [0, *blocks],
        parallel_iterations=1,  # of memory for one block
    )
    return blocks[0].concat(), blocks[1].concat()


def _best(
    scores: tf.Tensor, left_out: tf.Tensor, k: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best columns [batch, k] int32 without those of pairs [n, 2]; -1 past the last."""
    values, items = best_beside(scores, left_out, k)
    return tf.where(values > _LOWEST, items, -1), values


def _pairs(items: tf.Tensor) -> tf.Tensor:
    """[n, 2] int64: the rows and items of items [batch, any], those below 0 left out."""
    there = tf.where(items >= 0)
    return tf.stack([there[:, 0], tf.cast(tf.gather_nd(items, there), tf.int64)], axis=1)


def _embedded(vectors: tf.Tensor, known: tf.Tensor) -> Answer:
    return {"embedding": tf.where(known[:, None], vectors, 0.0), "known": known}


def _places(ids: tf.Tensor) -> tf.lookup.StaticHashTable:
    """From an id to its place in a list, int32; -1 where it is not there."""
    places = tf.range(tf.size(ids))
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(ids, places), default_value=-1
    )


def _found(places: tf.lookup.StaticHashTable, ids: tf.Tensor) -> tf.Tensor:
    """Where ids [batch] stand, -1 for those that are not there.

    The signature's shape is not looked at by whoever feeds a graph: here it is.
    """
    return places.lookup(tf.ensure_shape(ids, [None]))


def _stored(values: tf.Tensor | np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values, trainable=False, name=name)

"""A finished run as a SavedModel: from a user's id to ranked items, without this package.

The graph holds TensorFlow's own ops alone, so TensorFlow Serving, the C API and
`saved_model_cli` run it. A graph model's vectors are exported propagated: its sparse
product cannot go into a SavedModel, and serving does not need it.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.evaluation import Ranker, check_cutoffs, exact_top_k, popularity_ranking
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.models import Recommender
from autosample_tf.training import Source, TrainedRun, load_run

_USERS_PER_BLOCK = 128  # bounds the memory of a large request: a row of scores a user
_USERS_CHECKED = 128
_TOLERANCE = 1e-5  # share of a user's largest score: another batch, another order of sums
log = logging.getLogger(__name__)


def export(
    run_dir: str | Path,
    *,
    output: str | Path | None = None,
    k: int = 20,
    source: str | Source | Dataset | None = None,
) -> Path:
    """Writes the next version of a run's SavedModel, after comparing it with the run.

    Its `serving_default` takes `user_id` [batch] string and gives `item_id` [batch, k]
    string and `score` [batch, k] float32, best first, and `known` [batch] bool. Seen items
    are left out, as by `recommend`. Users that the run does not know (`known` is
    false) and those without a pair that it trained on get the most popular items, with the
    number of an item's users as its score. A row with fewer than k items is padded with an
    empty id and the lowest finite float32.

    Args:
      run_dir: the run's folder.
      output: the folder of the versions; None: `export` in the run's.
      k: items a user gets, at least 1; cut to the size of the catalogue, with a warning.
      source: the dataset, if it is not where the run found it.

    Returns:
      The new version's folder, `<output>/<version>`.

    Raises:
      InputError: if the run is not finished, k is below 1, or what was written does not
        rank as the run does (then nothing is left behind).
    """
    trained = load_run(run_dir, source=source)
    num_items = trained.data.num_items
    check_cutoffs([min(k, num_items)], num_items)
    if k > num_items:
        log.warning("k is cut from %d to the %d items of the catalogue", k, num_items)
        k = num_items
    versions = Path(output) if output is not None else trained.run.path / "export"
    versions.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=versions) as folder:
        written = Path(folder) / "model"
        data = trained.data
        server = Server(
            trained.model, trained.seen, data.user_ids, data.item_ids, k, trained.learned
        )
        tf.saved_model.save(server, str(written), signatures=server.serve)
        check_agreement(written, trained, k)
        return _published(written, versions)


class Server(tf.Module):
    """The exported graph and its tables.

    Tables are variables: each is stored once, apart from the graph, whose file cannot
    grow past 2 GB.

    Args:
      model: a trained model, of which the representations are kept.
      seen: the items of each user to leave out.
      user_ids: [num_users] str.
      item_ids: [num_items] str.
      k: how many items to rank, in [1, num_items].
      learned: the pairs that the model learned from; None: those of `seen`.
    """

    def __init__(
        self,
        model: Recommender,
        seen: Interactions,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        k: int,
        learned: Interactions | None = None,
    ):
        super().__init__(name="server")
        self._k = k
        self._score_all = model.score_all
        state = model.propagate()
        self._users = _stored(model.users(state, tf.range(model.num_users)), "users")
        self._items = _stored(model.items(state, tf.range(model.num_items)), "items")
        scored = tf.function(model.score_all).get_concrete_function(self._users, self._items)
        self._of_scores = scored.variables  # else what a score learned would not be saved
        self._item_ids = _stored(tf.constant(item_ids.tolist()), "item_ids")
        self._seen_offsets = _stored(seen.offsets, "seen_offsets")
        self._seen_items = _stored(seen.items, "seen_items")
        self._places = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(user_ids.tolist()), tf.range(model.num_users, dtype=tf.int64)
            ),
            default_value=-1,
        )
        degrees = (seen if learned is None else learned).degrees
        self._is_learned = _stored(degrees > 0, "is_learned")
        self._popularity = _stored(seen.popularity.astype(np.float32), "popularity")
        self._popular = tf.constant(popularity_ranking(seen)[:k])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "user_id")])
    def serve(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best unseen items of users [batch]; what `export` says of the signature."""
        places = self._places.lookup(user_id)
        known = places >= 0
        users = tf.maximum(places, 0)  # an unknown user is looked up as the first
        items, scores = self._ranked_in_blocks(users)
        items = tf.where(known[:, None], items, self._popular)  # [batch, k]
        popularity = tf.gather(self._popularity, self._popular)
        scores = tf.where(known[:, None], scores, popularity)
        ids = tf.gather(self._item_ids, tf.maximum(items, 0))
        return {"item_id": tf.where(items >= 0, ids, ""), "score": scores, "known": known}

    def _ranked_in_blocks(self, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Items [batch, k] int32, -1 past the last, and their scores."""
        num_blocks = tf.maximum(1, -(-tf.size(users) // _USERS_PER_BLOCK))
        blocks = [
            tf.TensorArray(dtype, num_blocks, infer_shape=False, element_shape=[None, self._k])
            for dtype in (tf.int32, tf.float32)
        ]

        def rank_block(block: tf.Tensor, *done: tf.TensorArray) -> tuple:
            start = block * _USERS_PER_BLOCK
            found = self._ranked(users[start : start + _USERS_PER_BLOCK])
            return block + 1, *(d.write(block, f) for d, f in zip(done, found, strict=True))

        _, *blocks = tf.while_loop(
            lambda block, *_: block < num_blocks,
            rank_block,
            [0, *blocks],
            parallel_iterations=1,  # of memory for one block
        )
        return blocks[0].concat(), blocks[1].concat()

    def _ranked(self, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores = self._score_all(tf.gather(self._users, users), self._items)
        learned = tf.gather(self._is_learned, users)
        scores = tf.cond(
            tf.reduce_all(learned),
            lambda: scores,
            lambda: tf.where(learned[:, None], scores, self._popularity[None, :]),
        )
        values, items = exact_top_k(self._without_seen(users, scores), self._k)
        return tf.where(values > tf.float32.min, items, -1), values

    def _without_seen(self, users: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        """The scores [batch, num_items] with the lowest float32 at each user's seen items."""
        places = tf.ragged.range(
            tf.gather(self._seen_offsets, users), tf.gather(self._seen_offsets, users + 1)
        )
        items = tf.cast(tf.gather(self._seen_items, places.flat_values), tf.int64)
        pairs = tf.stack([places.value_rowids(), items], axis=1)  # [num_seen, 2]
        lowest = tf.fill([tf.shape(pairs)[0]], tf.float32.min)
        return tf.tensor_scatter_nd_update(scores, pairs, lowest)


def check_agreement(folder: Path, trained: TrainedRun, k: int) -> None:
    """Reloads a SavedModel and compares its rankings of some users with the run's own.

    Where two items differ, the run must score them alike: a tie that another order of
    sums broke.

    Raises:
      InputError: if a ranking differs.
    """
    data, seen = trained.data, trained.seen
    users = _users_to_check(seen.degrees)
    own = Ranker(trained.model, seen, k, trained.learned).rank(users)
    every = _every_score(trained, users)
    tolerance = _TOLERANCE * np.abs(every).max(axis=1, keepdims=True)
    stranger = "?"
    while stranger in data.user_ids:
        stranger += "?"
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    served = serve(user_id=tf.constant([*data.user_ids[users].tolist(), stranger]))
    ids, scores, known = (served[name].numpy() for name in ("item_id", "score", "known"))
    items = _places_of_items(ids, data.item_ids)
    popular = popularity_ranking(seen)[:k]
    agreed = {
        "known users": known[:-1].all() and not known[-1],
        "the popularity ranking": np.array_equal(items[-1], popular)
        and np.array_equal(scores[-1], seen.popularity[popular].astype(np.float32)),
        "scores": (np.abs(scores[:-1] - own.scores) <= tolerance).all(),
        "seen items": not (seen.contains(users[:, None], items[:-1]) & (items[:-1] >= 0)).any(),
        "items": same_or_tied(items[:-1], own.items, every, tolerance),
    }
    if wrong := [what for what, holds in agreed.items() if not holds]:
        raise expected(
            "the exported model to rank as the run does",
            received=f"differences in {', '.join(wrong)}",
            remedy="Nothing was exported. Please report this.",
        )


def same_or_tied(
    served: np.ndarray, own: np.ndarray, every: np.ndarray, tolerance: np.ndarray
) -> bool:
    """Whether two rankings differ in items of like scores only.

    Args:
      served: [n, k] items; below 0 is no item.
      own: [n, k] items, as the run ranks them.
      every: [n, num_items], the run's scores.
      tolerance: [n, 1], within which scores are alike.
    """
    ordered = np.sort(served, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        return False  # an item twice
    of_served, of_own = (
        np.take_along_axis(every, np.maximum(items, 0), axis=1) for items in (served, own)
    )
    alike = (served >= 0) & (own >= 0) & (np.abs(of_served - of_own) <= tolerance)
    return bool(((served == own) | alike).all())


def _every_score(trained: TrainedRun, users: np.ndarray) -> np.ndarray:
    """[n, num_items]: the run's scores of all items for some users."""
    model, state = trained.model, trained.model.propagate()
    vectors = model.users(state, tf.constant(users, tf.int32))
    return model.score_all(vectors, model.items(state, tf.range(model.num_items))).numpy()


def _users_to_check(degrees: np.ndarray) -> np.ndarray:
    """Users spread evenly from the one with the fewest seen items to the one with the most."""
    order = np.argsort(degrees, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, _USERS_CHECKED).astype(int))]


def _places_of_items(ids: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
    """Each id's place in the catalogue; -1 for the empty one, -2 for one not there."""
    places = {item.encode(): place for place, item in enumerate(item_ids.tolist())}
    places[b""] = -1
    return np.array([[places.get(item, -2) for item in row] for row in ids])


def _published(written: Path, versions: Path) -> Path:
    """Renames a whole model to the next version's folder."""
    while True:
        taken = [int(path.name) for path in versions.iterdir() if path.name.isdecimal()]
        version = versions / str(1 + max(taken, default=0))
        try:
            return written.rename(version)
        except OSError:
            if not version.exists():  # else another export took the number just now
                raise


def _stored(values: tf.Tensor | np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(values, trainable=False, name=name)

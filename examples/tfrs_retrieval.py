"""The model of TFRS's basic-retrieval tutorial, as it stands and under AutoSample.

    python examples/tfrs_retrieval.py path/to/ml-100k.inter

`path` is MovieLens 100K as RecBole's atomic file: tab separated, a header, `user_id` and
`item_id` first. It has no titles, so that movies go by their id. Four fifths of the ratings
are to learn from, of which a tenth is held out for choices; all have the same towers, epochs
and batches, and are measured by the same full ranking of the movies that a user has not rated.
Of the learning rates 3e-3 and 1e-2 each has the one that was better on what is held out.

What it takes to go from one to the other is all in `two_tower` and `with_autosample`: ten
lines in the place of the tutorial's `MovielensModel`. Towers and datasets stay as they were.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

import autosample_tf
from autosample_tf.evaluation import Evaluator
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import padded_batches

import tensorflow as tf  # isort: skip  (autosample_tf first: it asks for Keras 2)
import tensorflow_recommenders as tfrs  # isort: skip

EPOCHS, BATCH_SIZE, DIM = 3, 256, 32


class Ratings(NamedTuple):
    """Datasets of `{"user_id", "movie_id"}`, text, an example an element."""

    train: tf.data.Dataset
    valid: tf.data.Dataset
    test: tf.data.Dataset
    movies: tf.data.Dataset  # of {"movie_id"}
    user_ids: np.ndarray
    movie_ids: np.ndarray


def read(path: Path) -> Ratings:
    pairs = np.loadtxt(path, dtype=str, delimiter="\t", skiprows=1, usecols=(0, 1))
    order = np.random.default_rng(42).permutation(len(pairs))
    first, second = int(0.72 * len(pairs)), int(0.8 * len(pairs))
    train, valid, test = (
        tf.data.Dataset.from_tensor_slices({"user_id": part[:, 0], "movie_id": part[:, 1]})
        for part in np.split(pairs[order], [first, second])
    )
    user_ids, movie_ids = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
    movies = tf.data.Dataset.from_tensor_slices({"movie_id": movie_ids})
    return Ratings(train, valid, test, movies, user_ids, movie_ids)


def tower(ids: np.ndarray) -> tf.keras.Model:
    """The tutorial's: an id to a row of a table."""
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=ids.tolist(), mask_token=None),
            tf.keras.layers.Embedding(len(ids) + 1, DIM),
        ]
    )


class MovielensModel(tfrs.Model):
    """The tutorial's: a softmax over the other movies of the batch.

    Args:
      user_model: ids of users to [batch, dim].
      movie_model: ids of movies to [batch, dim].
      shares: [1 + number of movies], how often each of the tower's rows is in a batch; None, as in
        the tutorial: popular movies are negatives as often as they are positives, and nothing
        makes up for it.
    """

    def __init__(
        self, user_model: tf.keras.Model, movie_model: tf.keras.Model, shares: np.ndarray | None
    ):
        super().__init__()
        self.user_model, self.movie_model, self.shares = user_model, movie_model, shares
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=shares is not None)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        ids, q = features["movie_id"], None
        if self.shares is not None:
            q = tf.gather(self.shares, self.movie_model.layers[0](ids))
        return self.task(
            self.user_model(features["user_id"]), self.movie_model(ids), compute_metrics=False,
            candidate_ids=ids, candidate_sampling_probability=q,
        )  # fmt: skip


def with_tfrs(
    user_model: tf.keras.Model, movie_model: tf.keras.Model, ratings: Ratings, epochs: int
) -> None:
    model = MovielensModel(user_model, movie_model, shares=None)
    model.compile(optimizer=RowSparseAdam(3e-3))
    model.fit(ratings.train.shuffle(100_000, seed=1).batch(BATCH_SIZE), epochs=epochs, verbose=0)


def with_tfrs_and_log_q(
    user_model: tf.keras.Model, movie_model: tf.keras.Model, ratings: Ratings, epochs: int
) -> None:
    """As above, corrected by how often each movie is sampled."""
    ids = [example["movie_id"] for example in ratings.train.as_numpy_iterator()]
    rows = movie_model.layers[0](tf.constant(ids)).numpy()
    shares = np.bincount(rows, minlength=1 + len(ratings.movie_ids)) / len(rows)
    model = MovielensModel(user_model, movie_model, shares.astype(np.float32))
    model.compile(optimizer=RowSparseAdam(1e-2))
    model.fit(ratings.train.shuffle(100_000, seed=1).batch(BATCH_SIZE), epochs=epochs, verbose=0)


def with_autosample(
    user_model: tf.keras.Model, movie_model: tf.keras.Model, ratings: Ratings, epochs: int
) -> autosample_tf.AutoSample:
    towers = two_tower(user_model, movie_model, ratings)
    held_out = towers.pairs(ratings.valid)
    model = autosample_tf.AutoSample(towers, validation=held_out, l2=0.01)
    model.compile(optimizer=RowSparseAdam(1e-2))
    batches = padded_batches(ratings.train.shuffle(100_000, seed=1), BATCH_SIZE)
    model.fit(batches, epochs=epochs, verbose=0)
    return model


def two_tower(
    user_model: tf.keras.Model, movie_model: tf.keras.Model, ratings: Ratings
) -> autosample_tf.TwoTower:
    return autosample_tf.TwoTower(
        user_model, movie_model, ratings.movies, train=ratings.train, query_id="user_id",
        query_features="user_id", candidate_features="movie_id",
    )  # fmt: skip


def measured(
    user_model: tf.keras.Model, movie_model: tf.keras.Model, ratings: Ratings
) -> dict[str, float]:
    """Full ranking of what a user has not rated in train or validation."""
    towers = two_tower(user_model, movie_model, ratings)
    seen = towers.train.union(towers.pairs(ratings.valid))
    return Evaluator(towers, towers.pairs(ratings.test), seen, [20]).mean()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path, help="ml-100k.inter")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args(arguments)
    ratings = read(given.path)
    for train in (with_tfrs, with_tfrs_and_log_q, with_autosample):
        tf.keras.utils.set_random_seed(0)
        towers = tower(ratings.user_ids), tower(ratings.movie_ids)
        trained = train(*towers, ratings, given.epochs)
        metrics = measured(*towers, ratings)
        print(f"{train.__name__}: Recall@20 {metrics['recall@20']:.4f}, "
              f"NDCG@20 {metrics['ndcg@20']:.4f}")  # fmt: skip
    weights = sorted(trained.weights_by_spec().items(), key=lambda one: -one[1])
    print("weights: " + ", ".join(f"{spec} {weight:.2f}" for spec, weight in weights))


if __name__ == "__main__":
    main()

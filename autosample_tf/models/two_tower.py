"""Your own two towers: any Keras models of features, as TensorFlow Recommenders has them.

One tower embeds queries, the other candidates, and their dot product is the score (Yi et
al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys
2019). A candidate costs a pass through its tower, so what samplers only choose among is
scored by a cache of the whole catalogue, which is made anew every `cache_steps` steps and so
up to that many steps old; the positives and the negatives that were chosen go through the
tower in every step, with gradient.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.models.contract import DotProduct, Featured
from autosample_tf.models.features import (
    Features,
    FeatureTable,
    all_known,
    as_ids,
    check_features,
    feature_spec,
    id_feature,
    read_catalogue,
    read_columns,
)
from autosample_tf.models.tower import Names, Tower, parted
from autosample_tf.ops.randomness import Draws
from autosample_tf.ops.replicas import positions
from autosample_tf.pipeline import EXAMPLE_WEIGHT

_ROWS_CHECKED = 1024
log = logging.getLogger(__name__)


class Resting(NamedTuple):
    """The state outside a training step: towers infer, queries are looked up by id."""


class InStep(NamedTuple):
    """The state of a training step.

    Attributes:
      queries: [batch, dim], of the batch.
      added: a scalar, see `contract.Featured.propagate_batch`.
    """

    queries: tf.Tensor
    added: tf.Tensor


class InEvaluation(NamedTuple):
    """Likewise of a step that learns nothing: towers infer."""

    queries: tf.Tensor
    added: tf.Tensor


class TwoTower(DotProduct, tf.keras.Model):
    """Two Keras towers over feature dictionaries, trained in place.

    Queries of one `query_id` are one user: all their candidates in `train` are positives, and
    never negatives of theirs. Without a `query_id` nothing is known of a query but the
    candidate that it comes with, which alone is masked; what needs to know users (the
    objective `validation`, rankings by `Evaluator`) then cannot be had.

    L2 weighs the representations. The regularizers of the towers' layers are added to the
    loss, as by `tfrs.Model`, and so is what layers add themselves, in each of a step's passages:
    of queries, positives, chosen negatives. Since these pass apart, layers of the candidate tower
    must not mix rows: it may have no `BatchNormalization` that learns.

    Args:
      query_model: features of queries to [n, dim].
      candidate_model: features of candidates to [n, dim].
      candidates: the catalogue, a finite dataset of features, each candidate once.
      train: the examples that `fit` is to see, a finite dataset, of which the ids are read,
        and the features of each query's last example, which rankings embed it by; all of it
        passes through memory once. None: every candidate counts as once chosen, by a query
        of its own, which makes samplers by popularity uniform.
      candidate_id: the feature that tells candidates apart, in `candidates` as in examples;
        None: the only one of theirs called `id` or `…_id`, or their only one.
      query_id: the feature of examples that tells queries apart; it needs `train`.
      query_features: what the query tower reads of an example: one name: the tensor alone;
        several: a dictionary of these; None: a dictionary of all that candidates have not.
      candidate_features: likewise, what the candidate tower reads of a candidate; None: all.
      cache_steps: steps from one embedding of the catalogue to the next, at least 1; fewer
        choose negatives by fresher scores, each at the price of the catalogue's passage
        through the tower.

    Raises:
      InputError: if a feature is missing, an id is twice in the catalogue, the towers' widths
        differ, a tower gives numbers that are not finite, or candidates are normalized by batch.
    """

    def __init__(
        self,
        query_model: tf.keras.layers.Layer,
        candidate_model: tf.keras.layers.Layer,
        candidates: tf.data.Dataset,
        *,
        train: tf.data.Dataset | None = None,
        candidate_id: str | None = None,
        query_id: str | None = None,
        query_features: Names = None,
        candidate_features: Names = None,
        cache_steps: int = 100,
    ):
        super().__init__(name="two_tower")
        if cache_steps < 1:
            raise expected("cache_steps of at least 1", received=cache_steps, remedy="Raise it.")
        self.query_model, self.candidate_model = query_model, candidate_model
        self._queries = Tower(query_model, query_features, "query tower")
        self._candidates = Tower(candidate_model, candidate_features, "candidate tower")
        self._query_id, self.cache_steps = query_id, cache_steps
        self._candidate_id, self.catalogue = read_catalogue(candidates, candidate_id)
        self._candidates.names(list(self.catalogue.features))
        self.num_items = len(self.catalogue)
        everything = self._embedded_catalogue()
        self.dim = everything.shape[1]
        self._candidates.check_finite(everything, self.catalogue)
        self._candidates.check_rows_apart()
        self._step = threading.local()  # what a replica's candidates have `added` so far
        self.cache = tf.Variable(
            everything,
            trainable=False,
            name="cache",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.staleness = tf.keras.metrics.Mean(name="staleness")
        self._known: FeatureTable | None = None  # queries by id
        self._owners, self.train = self._read_train(train)
        self.num_users = self.train.num_users
        self.built = bool(query_model.built)

    def get_config(self) -> dict[str, Any]:
        """There is none: the catalogue would be part of it.

        Raises:
          NotImplementedError: always, before Keras writes a file that it could not read.
        """
        raise NotImplementedError(
            "Expected weights to be saved (save_weights), or the towers themselves; received a "
            "request for the whole TwoTower, which its catalogue is part of."
        )

    def _read_train(self, train: tf.data.Dataset | None) -> tuple[tf.Tensor | None, Interactions]:
        """The known queries and the pairs being trained on.

        Returns:
          Where queries have no id, [num_items] int32: of each candidate the query that stands
          for all that come with it, -1 for none; and the pairs.
        """
        if train is None:
            if self._query_id is not None:
                raise expected(
                    f"the examples whose {self._query_id!r} tell queries apart",
                    received="none",
                    remedy="Pass train=…, or no query_id.",
                )
            places = np.arange(self.num_items, dtype=np.int32)
            log.warning(
                "no train=: popularity is uniform, and a query's own candidate alone is masked"
            )
        elif self._query_id is not None:
            self._known = self._read_queries(train, self._query_id)
            return None, self.pairs(train)
        else:
            columns = read_columns(train, [self._candidate_id], "train")
            places = self._places_of(columns[self._candidate_id], "train")
        examples = np.arange(len(places), dtype=np.int32)
        owners = np.full(self.num_items, -1, np.int32)
        owners[places] = examples
        pairs = Interactions.from_pairs(
            examples, places, num_users=len(examples), num_items=self.num_items
        )
        return tf.constant(owners), pairs

    def _read_queries(self, train: tf.data.Dataset, query_id: str) -> FeatureTable:
        """Each query's last example, checked against the candidates."""
        spec = feature_spec(train.element_spec, "train")
        id_feature(spec, query_id, "train")
        names = self._query_names(list(spec))
        columns = read_columns(train, [query_id, *names], "train")
        ids, from_the_end = np.unique(as_ids(columns[query_id])[::-1], return_index=True)
        last = tf.constant(len(columns[query_id]) - 1 - from_the_end)
        queries = FeatureTable(ids, {name: tf.gather(columns[name], last) for name in names})
        some = queries.rows(tf.range(min(len(queries), _ROWS_CHECKED)))
        self._queries.check_finite(self._embed_queries(some, training=False), queries)
        return queries

    def pairs(self, examples: tf.data.Dataset) -> Interactions:
        """A finite dataset's examples as pairs: what is held out, for `validation` or a ranking.

        Examples of queries that `train` does not have are left out, with a warning.

        Raises:
          InputError: where queries have no id, or a candidate is none of the catalogue's.
        """
        known = self._known_queries()
        columns = read_columns(examples, [self._query_id, self._candidate_id], "the examples")
        users = known.find(columns[self._query_id]).numpy()
        items = self._places_of(columns[self._candidate_id], "the examples")
        if strangers := int(np.sum(users < 0)):
            log.warning("examples of queries that train lacks left out: %d", strangers)
        return Interactions.from_pairs(
            users[users >= 0],
            items[users >= 0],
            num_users=len(known),
            num_items=self.num_items,
        )

    def check_batches(self, spec: Any) -> None:
        features = feature_spec(spec, "the batches")
        names = self._query_names(list(features))
        ids = {self._candidate_id: self.catalogue}
        if self._known is not None:
            ids[self._query_id] = self._known
        check_features([*ids, *names], list(features), "a batch")
        for name, table in ids.items():
            id_feature(features, name, "a batch")
            if (features[name].dtype == tf.string) != (table.ids.dtype == object):
                raise expected(
                    f"{name!r} of a batch in the type of the ids known, such as {table.id_of(0)!r}",
                    received=features[name].dtype.name,
                    remedy="Convert one of them.",
                )
        if any(not one.shape.rank or one.shape[0] is None for one in features.values()):
            raise expected(
                "batches of one size",
                received=f"shape {features[self._candidate_id].shape} of {self._candidate_id!r}",
                remedy="Use batch(…, drop_remainder=True), or pipeline.padded_batches.",
            )
        one_row = {
            name: tf.zeros([1, *(size or 1 for size in features[name].shape[1:])], one.dtype)
            for name, one in features.items()
        }
        self._embed_queries(one_row, training=False)

    def examples(self, features: Features, step: tf.Tensor) -> dict[str, Any]:
        ids = features[self._candidate_id]
        positives = all_known(self.catalogue.find(ids), ids, "candidates that the catalogue has")
        if self._known is None:
            users = all_known(tf.gather(self._owners, positives), ids, "candidates that train has")
        else:
            ids = features[self._query_id]
            users = all_known(self._known.find(ids), ids, "queries that train has")
        rows = positives.shape[0]
        return {
            "user": users,
            "positive": positives,
            "weight": tf.cast(features.get(EXAMPLE_WEIGHT, tf.ones([rows])), tf.float32),
            "position": positions(step, rows),
            "features": features,
        }

    def propagate(self, draws: Draws | None = None) -> Resting:
        return Resting()

    def propagate_batch(self, features: Features, *, training: bool) -> InStep | InEvaluation:
        self._step.added = []
        queries = self._embed_queries(features, training=training)
        if not training:
            return InEvaluation(queries, tf.constant(0.0))
        return InStep(queries, tf.add_n([tf.constant(0.0), *self._queries.added()]))

    @property
    def losses(self) -> list[tf.Tensor]:
        """The regularizers of the towers' layers, and what those of the candidate tower added in
        this step so far."""
        regularizers, _ = parted(super().losses, super().losses)
        return [*regularizers, *getattr(self._step, "added", [])]

    def users(self, state: Resting | InStep | InEvaluation, ids: tf.Tensor) -> tf.Tensor:
        """Of a step's state: the batch's, of which `ids` [batch] are the users."""
        if isinstance(state, Resting):
            return self._queries.embed(self._known_queries(), ids)
        return tf.ensure_shape(state.queries, [*ids.shape, self.dim])

    def items(self, state: Resting | InStep | InEvaluation, ids: tf.Tensor) -> tf.Tensor:
        training = isinstance(state, InStep)
        rows = self._candidates.embed(self.catalogue, ids, training=training)
        if training:
            self._step.added += self._candidates.added()
        return rows

    def cached_items(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.stop_gradient(tf.convert_to_tensor(self.cache)), ids)

    def renew_cache(self, step: tf.Tensor) -> None:
        """Every `cache_steps`-th step; `staleness` then takes in how far candidates had moved
        since the last time, relative to their lengths."""

        def renew() -> tf.Tensor:
            fresh = self._embedded_catalogue()
            apart, lengths = tf.norm(fresh - self.cache, axis=1), tf.norm(fresh, axis=1)
            moved = tf.math.divide_no_nan(apart, lengths)
            is_old = tf.cast(step > 0, tf.float32)  # a cache that was just made tells nothing
            self.staleness.update_state(tf.reduce_mean(moved), sample_weight=is_old)
            self.cache.assign(fresh)
            return tf.constant(True)

        tf.cond(step % self.cache_steps == 0, renew, lambda: tf.constant(False))

    def call(self, features: Features, training: bool = False) -> tf.Tensor:
        """Scores of examples: features by name [batch, …] to [batch]."""
        places = self.catalogue.find(features[self._candidate_id])
        candidates = self._candidates(self.catalogue.rows(places), training=training)
        return self.score(self._embed_queries(features, training=training), candidates)

    def _query_names(self, there: Sequence[str]) -> list[str]:
        """What the query tower reads of examples; its choice, if it has one, may be any."""
        own = [name for name in there if name not in (*self.catalogue.features, EXAMPLE_WEIGHT)]
        return self._queries.names(there if self._queries.is_particular else own)

    def _embed_queries(self, features: Features, *, training: bool) -> tf.Tensor:
        chosen = {name: features[name] for name in self._query_names(list(features))}
        rows = self._queries(chosen, training=training)
        if rows.shape[1] != self.dim:
            raise expected(
                "two towers of one width",
                received=f"{rows.shape[1]} of the query tower, {self.dim} of the candidate tower",
                remedy="Give their last layers the same number of units.",
            )
        return rows

    def _embedded_catalogue(self) -> tf.Tensor:
        return self._candidates.embed(self.catalogue, tf.range(self.num_items))

    def _known_queries(self) -> FeatureTable:
        if self._known is None:
            raise expected(
                "queries with an id, to know one again",
                received="none",
                remedy="Make the TwoTower with query_id=… and train=….",
            )
        return self._known

    def _places_of(self, ids: tf.Tensor, what: str) -> np.ndarray:
        """[n] int32 in the catalogue."""
        places = self.catalogue.find(ids).numpy()
        if (places < 0).any():
            raise expected(
                f"candidates of the catalogue in {what}",
                received=f"{ids[int(np.argmin(places))].numpy()!r} in {self._candidate_id!r}",
                remedy="Add them to the candidates, or leave such examples out.",
            )
        return places


def recommender_of(model: Any, train: Any, candidates: tf.data.Dataset | None) -> tuple[Any, Pairs]:
    """What `AutoSample` trains, and on which pairs, of the ways to name them.

    Args:
      model: a recommender, or a query tower.
      train: the pairs; None: those of the model of features; or a candidate tower.
      candidates: the catalogue of the two towers; None: the model is a recommender.
    """
    if candidates is not None:
        model, train = TwoTower(model, train, candidates), None
    if train is None and isinstance(model, Featured):
        train = model.train
    if not isinstance(train, Pairs):
        raise expected(
            "a recommender and the pairs to train it on, or two towers and their candidates",
            received=f"{type(model).__name__} and {type(train).__name__}",
            remedy="Pass train, or candidates=….",
        )
    return model, train

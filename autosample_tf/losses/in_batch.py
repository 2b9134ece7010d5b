"""The in-batch softmax of TensorFlow Recommenders, the reference that samplers are held to.

An example's negatives are all other positives of its batch (Yi et al., "Sampling-Bias-Corrected
Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, here without their
correction). Samplers then play no part: one product of the batch's users with its positives
scores every pair, where a sampler would have to look up a batch of negatives for each row.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import tensorflow as tf
import tensorflow_recommenders as tfrs

from autosample_tf.losses.pairwise import BPR


@dataclasses.dataclass(frozen=True)
class InBatchSoftmax(BPR):
    """`tfrs.tasks.Retrieval` over the global batch.

    For models whose score is the inner product, which the task computes itself. Of the
    batch, rows of padding and other rows with the same positive are no negatives; a user's
    other train positives are, as in the task.

    Attributes:
      temperature: as of `Tempered`.
      cosine: see `Loss`.
    """

    name: ClassVar[str] = "in-batch-softmax"
    compares_several: ClassVar[bool] = True
    compares_batch: ClassVar[bool] = True

    def of_batch(
        self,
        user_embeddings: tf.Tensor,
        positive_embeddings: tf.Tensor,
        positives: tf.Tensor,
        is_real: tf.Tensor,
    ) -> tf.Tensor:
        if self.cosine:
            user_embeddings = tf.math.l2_normalize(user_embeddings, axis=-1)
            positive_embeddings = tf.math.l2_normalize(positive_embeddings, axis=-1)
        own = tf.eye(user_embeddings.shape[0], positive_embeddings.shape[0], dtype=tf.bool)
        return self._task(
            user_embeddings,
            positive_embeddings,
            candidate_ids=positives,
            score_mask=own | is_real[None, :],
        )

    @functools.cached_property
    def _task(self) -> Any:
        task = tfrs.tasks.Retrieval(
            loss=tf.keras.losses.CategoricalCrossentropy(
                from_logits=True, reduction=tf.keras.losses.Reduction.NONE
            ),
            temperature=self.temperature,
            remove_accidental_hits=True,
        )
        return tf.function(task.call)  # it relies on AutoGraph, which training steps do without

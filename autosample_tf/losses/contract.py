"""What a loss must offer for AutoSample to train under it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import tensorflow as tf

from autosample_tf.errors import expected
from autosample_tf.float32 import fits_float32


class Loss(abc.ABC):
    """The loss contract: what a pair costs, and from that what a sampler's negatives cost.

    A subclass is a frozen dataclass whose fields are the options of its spec.

    Attributes:
      name: what it is called in a spec.
      cosine: whether a training step scores representations of length 1, for samplers as for
        the loss; ranking takes the model's own scores all the same.
      compares_several: whether several negatives cost anything but the mean of each alone;
        such a loss has no instance mixing, which leaves one.
      compares_batch: whether an example's negatives are the other positives of its batch,
        whatever was sampled; such a loss has `of_batch`, and needs dot products.
      log_q: whether it needs the probability with which a negative was drawn.
    """

    name: ClassVar[str]
    compares_several: ClassVar[bool] = False
    compares_batch: ClassVar[bool] = False
    cosine: bool = False
    log_q: bool = False

    @abc.abstractmethod
    def of_pairs(self, positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
        """What each negative costs by itself: [batch] and [batch, n] to [batch, n]."""

    def of_samplers(
        self,
        positive_scores: tf.Tensor,
        negative_scores: tf.Tensor,
        weights: tf.Tensor,
        owners: np.ndarray,
        log_q: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """What each sampler's negatives cost: the `weights`-mean of its pairs.

        Args:
          positive_scores: [batch].
          negative_scores: [batch, M], of the columns of all samplers.
          weights: [batch, M], each sampler's summing to 1, or to 0 where it has no negative.
          owners: [M, num_samplers] float32, one-hot: whose column it is.
          log_q: [batch, M], log of the probability with which each was drawn, of losses that
            need it.

        Returns:
          [batch, num_samplers]; 0 where the sampler has no negative.
        """
        return tf.matmul(self.of_pairs(positive_scores, negative_scores) * weights, owners)

    def of_batch(
        self,
        user_embeddings: tf.Tensor,
        positive_embeddings: tf.Tensor,
        positives: tf.Tensor,
        is_real: tf.Tensor,
    ) -> tf.Tensor:
        """What each row costs among the others, of a loss that compares the batch.

        Args:
          user_embeddings: [batch, dim], of this replica's rows.
          positive_embeddings: [rows, dim], of all rows of the global batch, this replica's
            first.
          positives: [rows] int32, likewise.
          is_real: [rows] bool, likewise; false for padding.

        Returns:
          [batch], at least 0.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Tempered(Loss):
    """A loss of scores divided by a temperature.

    Attributes:
      temperature: above 0; lower tells near scores apart more sharply.
      cosine: see `Loss`; cosines are at most 1, and need a temperature well below it.
    """

    temperature: float = 1.0
    cosine: bool = False

    def __post_init__(self) -> None:
        check_option(self, "temperature", "above 0", lambda x: x > 0)


def check_option(loss: Loss, option: str, wanted: str, holds: Callable[[float], bool]) -> None:
    """Raises `InputError` where an option's value is not as `wanted` says, or not finite."""
    value = getattr(loss, option)
    if not (holds(value) and fits_float32(value)):
        wanted = "finite, and 0 or within 1e-37 and 1e38" if holds(value) else wanted
        message = f"{loss.name}'s {option} {wanted}"
        raise expected(message, received=value, remedy="Change it.")

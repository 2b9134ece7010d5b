"""Losses of pairs: a positive against one negative, whatever the others are.

Each is a pure function of scores, and a `Loss` that chooses its options.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import tensorflow as tf

from autosample_tf.losses.contract import Loss, Tempered, check_option


def bpr(positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
    """Bayesian personalized ranking: -log sigmoid(positive - negative).

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009,
    BPR-Opt without its regularization, which is the model's.

    Args:
      positive_scores: [batch].
      negative_scores: [batch, n].

    Returns:
      [batch, n], at least 0.
    """
    return tf.nn.softplus(negative_scores - positive_scores[:, None])


@dataclasses.dataclass(frozen=True)
class BPR(Tempered):
    """`bpr` of scores divided by a temperature.

    Attributes:
      temperature: as of `Tempered`.
      cosine: as of `Tempered`.
    """

    name: ClassVar[str] = "bpr"

    def of_pairs(self, positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
        return bpr(positive_scores / self.temperature, negative_scores / self.temperature)


def hinge(positive_scores: tf.Tensor, negative_scores: tf.Tensor, margin: float) -> tf.Tensor:
    """The margin ranking loss: max(0, margin - positive + negative).

    Weston, Bengio & Usunier, "WSABIE: Scaling Up To Large Vocabulary Image Annotation",
    IJCAI 2011, without its weight of the rank, which the sampler `warp` brings as its scale.

    Args:
      positive_scores: [batch].
      negative_scores: [batch, n].
      margin: by how much a positive is to lead.

    Returns:
      [batch, n], at least 0.
    """
    return tf.nn.relu(margin - positive_scores[:, None] + negative_scores)


@dataclasses.dataclass(frozen=True)
class Hinge(Loss):
    """`hinge`.

    Attributes:
      margin: above 0, in units of the score.
      cosine: see `Loss`.
    """

    name: ClassVar[str] = "hinge"
    margin: float = 1.0
    cosine: bool = False

    def __post_init__(self) -> None:
        check_option(self, "margin", "above 0", lambda x: x > 0)

    def of_pairs(self, positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
        return hinge(positive_scores, negative_scores, self.margin)


def bce(positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy: -log sigmoid(positive) - log(1 - sigmoid(negative)).

    He et al., "Neural Collaborative Filtering", WWW 2017, equation 7. There every negative
    weighs as much as a positive; here all of an example's together do, so that their number
    does not change what the scores mean.

    Args:
      positive_scores: [batch].
      negative_scores: [batch, n].

    Returns:
      [batch, n], at least 0.
    """
    return tf.nn.softplus(-positive_scores)[:, None] + tf.nn.softplus(negative_scores)


@dataclasses.dataclass(frozen=True)
class BCE(Tempered):
    """`bce` of scores divided by a temperature.

    Attributes:
      temperature: as of `Tempered`.
      cosine: as of `Tempered`.
    """

    name: ClassVar[str] = "bce"

    def of_pairs(self, positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
        return bce(positive_scores / self.temperature, negative_scores / self.temperature)


def cosine_contrastive(
    positive_cosines: tf.Tensor, negative_cosines: tf.Tensor, margin: float, negative_weight: float
) -> tf.Tensor:
    """Cosine contrastive loss: (1 - positive) + weight * max(0, negative - margin).

    Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021,
    equation 1, whose mean over negatives is the caller's.

    Args:
      positive_cosines: [batch], in [-1, 1].
      negative_cosines: [batch, n], likewise.
      margin: cosines of negatives up to it cost nothing.
      negative_weight: of the negatives' part.

    Returns:
      [batch, n], at least 0.
    """
    beyond = tf.nn.relu(negative_cosines - margin)
    return (1.0 - positive_cosines)[:, None] + negative_weight * beyond


@dataclasses.dataclass(frozen=True)
class CCL(Loss):
    """`cosine_contrastive`, of cosines always.

    Attributes:
      margin: in [-1, 1]: negatives of a smaller cosine are let be. Mao et al. tune it for each
        dataset; the default is ours.
      negative_weight: at least 0, of all an example's negatives against its positive; likewise.
    """

    name: ClassVar[str] = "ccl"
    margin: float = 0.5
    negative_weight: float = 1.0
    cosine: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        check_option(self, "margin", "in [-1, 1]", lambda x: -1 <= x <= 1)
        check_option(self, "negative_weight", "at least 0", lambda x: x >= 0)

    def of_pairs(self, positive_scores: tf.Tensor, negative_scores: tf.Tensor) -> tf.Tensor:
        return cosine_contrastive(
            positive_scores, negative_scores, self.margin, self.negative_weight
        )

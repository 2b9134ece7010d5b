"""What the logits of a mixture learn from within a training step.

An objective answers one question: which way should the logits move, given what this step
sampled? Adding one is a class here and its name in `settings.STEP_OBJECTIVES`. The abstract
of AutoSample (Lyu et al., arXiv 2311.03526) says that the search is a weighted sum learned
end to end, and no more: which objective is the paper's is not known here.

`branches` and `asng` are no such objectives: they try samplers, for epochs (see `branching`) or for
a few steps (see `asng`).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from autosample_tf import mixture
from autosample_tf.errors import expected, unknown
from autosample_tf.interactions import Interactions
from autosample_tf.losses import Loss
from autosample_tf.models import Recommender
from autosample_tf.settings import STEP_OBJECTIVES
from autosample_tf.step.heldout import ValidationSignal
from autosample_tf.step.sampling import SampledBatch


class Told(NamedTuple):
    """What a step tells an objective.

    Attributes:
      batch: the negatives of all active samplers.
      example_weight: [batch].
      of_loss: [num_samplers], the mixed loss' gradient in the logits.
      logits: [num_samplers].
      weights: [num_samplers], their softmax, 0 for dropped samplers.
      active: [num_samplers] bool, those not dropped.
      places: where these stand among the candidates, ascending.
      temperature: of the softmax.
    """

    batch: SampledBatch
    example_weight: tf.Tensor
    of_loss: tf.Tensor
    logits: tf.Tensor
    weights: tf.Tensor
    active: tf.Tensor
    places: tuple[int, ...]
    temperature: float


class Objective:
    """The contract.

    Attributes:
      learns: whether the logits move at all.
      gathers: whether the weights stay equal during a search's warm-up, while the logits
        move already. Once weights lean to a sampler the model has what it gives, and the
        others look better than they are.
    """

    learns = True
    gathers = False

    def optimizer(self) -> tf.keras.optimizers.Optimizer:
        """A new one, of the logits."""
        return tf.keras.optimizers.Adam(1e-2, jit_compile=False)

    def gradient(self, told: Told) -> tf.Tensor:
        """[num_samplers], which the logits' optimizer descends along; summed over replicas."""
        raise NotImplementedError


class Uniform(Objective):
    """The weights stay as they began: the baseline."""

    learns = False


class Joint(Objective):
    """The logits descend on the mixture that they weight, the literal form.

    d/dp_k sum_k p_k l_k is l_k, so they end at the sampler with the smallest loss: the
    easiest negatives, whatever is best for the ranking.
    """

    def gradient(self, told: Told) -> tf.Tensor:
        return told.of_loss


class Bilevel(Objective):
    """The logits descend on the held-out loss after one step of the model's.

    The one-step-unrolled form of bilevel optimization (DARTS, Liu, Simonyan & Yang, ICLR
    2019): d/dlogits V(u - sum_k p_k g_k) is -sum_k dp_k/dlogits <grad V, g_k>, at a unit
    step and at the representations of users and items, with V the samplers' own loss of
    held-out positives against uniform items. Through the softmax the gradient of what once has no
    weight is 0: what saturates stays.
    """

    def __init__(self, signal: ValidationSignal):
        self._signal = signal

    def gradient(self, told: Told) -> tf.Tensor:
        alignments = _alignments(self._signal, told)
        above = alignments - tf.reduce_sum(told.weights * alignments)
        return -told.weights * above / told.temperature / _replicas()


class Validation(Objective):
    """The logits follow how much each sampler's gradient helps held-out positives. Ours.

    They descend on 1/2 |logits - z|^2, z being the alignments with the gradient of the
    held-out positives' log rank, standardized over the active samplers: under SGD they are a
    moving average of z. They stay bounded and forget, so a sampler whose time comes later
    can come back, which the alignments' own gradient through the softmax cannot do for what
    it once drove to 0.
    """

    gathers = True

    def __init__(self, signal: ValidationSignal):
        self._signal = signal

    def optimizer(self) -> tf.keras.optimizers.Optimizer:
        return tf.keras.optimizers.SGD(2e-3, jit_compile=False)  # a mean over some 500 steps

    def gradient(self, told: Told) -> tf.Tensor:
        target = mixture.standardize(_alignments(self._signal, told), told.active)
        return tf.where(told.active, told.logits - target, 0.0) / _replicas()


def build_objective(
    name: str | Objective, model: Recommender, held_out: Interactions | None, loss: Loss
) -> Objective:
    """The objective of that name; one that is made already is itself.

    Args:
      name: one of `settings.STEP_OBJECTIVES`, or an objective.
      model: what is trained.
      held_out: the pairs that `bilevel` and `validation` help.
      loss: the samplers'.

    Raises:
      InputError: for an unknown name, or without held-out pairs where they are needed.
    """
    if isinstance(name, Objective):
        return name
    if name not in STEP_OBJECTIVES:
        raise unknown("objective", name, STEP_OBJECTIVES)
    plain = {"joint": Joint, "uniform": Uniform}
    if name in plain:
        return plain[name]()
    if held_out is None or not held_out.num_pairs:
        raise expected(
            f"held-out pairs for the objective {name!r}",
            received="none",
            remedy="Pass validation=…, or choose the objective 'uniform'.",
        )
    if name == "bilevel":
        return Bilevel(ValidationSignal(model, held_out, loss, ranked=False))
    return Validation(ValidationSignal(model, held_out, loss))


def _alignments(signal: ValidationSignal, told: Told) -> tf.Tensor:
    """[num_samplers], 0 for dropped ones."""
    alignments = signal.alignments(told.batch, told.example_weight)
    return tf.scatter_nd(tf.constant(told.places)[:, None], alignments, tf.shape(told.logits))


def _replicas() -> int:
    """By which a gradient is divided that every replica has whole."""
    return tf.distribute.get_strategy().num_replicas_in_sync

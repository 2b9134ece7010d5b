"""The dense part of a step, which XLA can compile, and its seam with the rest.

A step is the model's propagation, the dense part (sampling, scores, losses, the signal of
held-out positives, and all their gradients) and the optimizers. The propagation's sparse
products do not run under XLA, and the optimizers' sparse updates write into tables that XLA
would copy. So gradients are taken in two steps: those of the loss in what was propagated,
here; from there to the parameters by the propagation's own tape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from autosample_tf.models.contract import State

Gradient = Any  # a tensor, `tf.IndexedSlices`, or None


class Dense(NamedTuple):
    """What the dense part of a step gives.

    Attributes:
      per_sampler: [batch, active], the samplers' losses.
      loss: the mixture's, a scalar.
      of_state: the loss's gradients in the `tensors` of the state; None where it has none.
      of_variables: in the model's variables, as far as not through the state's tensors.
      of_own: in the samplers' own variables.
      of_logits: what moves the logits.
    """

    per_sampler: tf.Tensor
    loss: tf.Tensor
    of_state: list[Gradient]
    of_variables: list[Gradient]
    of_own: list[Gradient]
    of_logits: Gradient


def tensors(state: State) -> list[tf.Tensor]:
    """The computed tensors of a state: a model without layers has its variables there."""
    return [leaf for leaf in tf.nest.flatten(state) if not isinstance(leaf, tf.Variable)]


def watched(tape: tf.GradientTape, state: State) -> State:
    """The state with its tensors as sources of gradients of `tape`."""

    def source(leaf: tf.Tensor) -> tf.Tensor:
        if isinstance(leaf, tf.Variable):
            return leaf
        leaf = tf.identity(leaf)  # under XLA the argument that stands for the outer tensor
        if leaf.dtype.is_floating:
            tape.watch(leaf)
        return leaf

    return tf.nest.map_structure(source, state)


def through_propagation(
    tape: tf.GradientTape,
    state: State,
    added: list[tf.Tensor],
    found: Dense,
    variables: list[tf.Variable],
) -> list[Gradient]:
    """The loss's gradients in the model's variables.

    Args:
      tape: that of the propagation.
      state: what was propagated.
      added: what layers added to the loss there, scalars.
      found: what the dense part gave.
      variables: the model's.
    """
    reached = [(one, tf.ones_like(one)) for one in added] + [
        (tensor, _as_tensor(gradient, tensor))
        for tensor, gradient in zip(tensors(state), found.of_state, strict=True)
        if gradient is not None
    ]
    if not reached:
        return found.of_variables
    sources, gradients = zip(*reached, strict=True)
    propagated = tape.gradient(list(sources), variables, output_gradients=list(gradients))
    return [
        _sum(through, direct, variable)
        for through, direct, variable in zip(propagated, found.of_variables, variables, strict=True)
    ]


def _sum(through: Gradient, direct: Gradient, like: tf.Variable) -> Gradient:
    if through is None or direct is None:
        return direct if through is None else through
    return _as_tensor(through, like) + _as_tensor(direct, like)


def _as_tensor(gradient: tf.Tensor | tf.IndexedSlices, like: tf.Tensor) -> tf.Tensor:
    """Rows summed into a tensor of the shape of `like`."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, like.shape[0])

"""The losses, by name: pure functions of scores, and the choice of one with its options.

A pairwise loss gives one value a (positive, negative) pair, and a sampler with several
negatives answers for their weighted mean; a softmax compares the positive with all of them
at once. A loss is chosen by a spec, `NAME[:key=value,…]`. How the samplers' losses are then
averaged is `mixture`'s business. Adding one is a file that fulfils `contract.Loss`, its class in
`LOSSES`, and its name in `settings.LOSSES`, which the command line reads without TensorFlow.
"""

from __future__ import annotations

from autosample_tf.errors import unknown
from autosample_tf.losses.contract import Loss
from autosample_tf.losses.in_batch import InBatchSoftmax
from autosample_tf.losses.pairwise import BCE, BPR, CCL, Hinge
from autosample_tf.losses.softmax import SampledSoftmax
from autosample_tf.specs import build_from

__all__ = ["LOSSES", "InBatchSoftmax", "Loss", "build_loss"]

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (BPR, Hinge, BCE, CCL, SampledSoftmax, InBatchSoftmax)
}


def build_loss(spec: str | Loss) -> Loss:
    """The loss of a spec, `bpr` or `ccl:margin=0.9`; one that is made already is itself.

    Raises:
      InputError: for an unknown name or option, or a value that cannot be.
    """
    if not isinstance(spec, str):
        return spec
    name, _, options = spec.partition(":")
    if name not in LOSSES:
        raise unknown("loss", name, list(LOSSES))
    return build_from(LOSSES[name], "loss", spec, options)

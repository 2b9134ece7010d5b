"""Which sampler keeps XLA from compiling a step, told in one line.

XLA has no kernel for some operations, and finds out when the first step is taken; its
message names the operation, in a page of others. Those of this package all compile, so this
is for samplers from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.errors import expected

_REFUSALS = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)


@contextmanager
def named_refusals(
    autosample: AutoSample, batch: Callable[[], dict[str, tf.Tensor]]
) -> Iterator[None]:
    """While it lasts, a step that XLA refuses is blamed on the sampler that it is due to.

    Args:
      autosample: what is trained, compiled.
      batch: makes one that each sampler is tried on; called only where something failed.

    Raises:
      InputError: naming the first active sampler whose step XLA refuses. An error that is
        no sampler's comes through as it is.
    """
    try:
        yield
    except _REFUSALS as error:
        refused = _refused(autosample, batch()) if autosample.jit else None
        if refused is None:
            raise
        raise expected(
            "samplers that XLA can compile, with --jit",
            received=refused,
            remedy="Leave it out, or train without --jit.",
        ) from error


def _refused(autosample: AutoSample, batch: dict[str, tf.Tensor]) -> str | None:
    """The spec of the first active sampler that does not compile alone."""
    for place in autosample.active_places:
        with autosample.under((place,)):
            try:
                autosample.loss_under_xla(batch)
            except _REFUSALS:
                return autosample.specs[place]
    return None

"""What each sampler costs: the step's milliseconds with it against without it.

Sampling, losses, gradients and the optimizers' work; what a sampler does once in many
steps (a new ordering) is not in it.

Timed beside the training, on steps that are taken back: every variable is put back to what
it was, and random numbers have no state, so that training goes on as if nothing had been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf

from autosample_tf.autosample import AutoSample

_SECONDS = 3.0  # what all timed steps together may take, about
_FEWEST, _MOST = 2, 20  # timed steps of each mixture


def sampler_costs(autosample: AutoSample, batch: dict[str, tf.Tensor]) -> dict[str, float]:
    """Milliseconds that each active sampler adds to a step, by spec.

    Samplers share candidates, so the costs of all do not add up to the step's: one that
    alone widens the pool pays for it, and two that both need it look cheap.

    Args:
      autosample: compiled, with its optimizer built.
      batch: what a step is taken on.

    Returns:
      Fastest step with all samplers less the fastest without this one. The fastest, since
      on a busy machine it is what other work disturbs least. Empty where one sampler is
      all there is, on several replicas, and under XLA, which would compile for as long as
      epochs take.
    """
    everybody = autosample.active_places
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if len(everybody) < 2 or replicas > 1 or autosample.jit:
        return {}
    with _taken_back(autosample):
        steps: dict[int | None, Callable] = {None: _traced(autosample, everybody)}
        for k in everybody:
            steps[k] = _traced(autosample, tuple(other for other in everybody if other != k))
        fastest = _fastest(steps, batch)
    return {
        autosample.specs[k]: 1e3 * (fastest[None] - seconds)
        for k, seconds in fastest.items()
        if k is not None
    }


def _traced(autosample: AutoSample, active: tuple[int, ...]) -> Callable:
    """A step under some samplers alone, which returns when it is done."""

    def one_step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        told, _, loss = autosample.descend(batch)
        autosample.update_samplers(told)
        return loss

    step = tf.function(one_step, autograph=False)

    def take(batch: dict[str, tf.Tensor]) -> None:
        with autosample.under(active):  # the first call traces
            step(batch).numpy()

    return take


def _fastest(steps: dict[int | None, Callable], batch: dict[str, tf.Tensor]) -> dict:
    """Each step's fewest seconds, taken in turns so that a slow moment hits all alike."""
    for step in steps.values():
        step(batch)
    began = time.perf_counter()
    steps[None](batch)
    once = time.perf_counter() - began
    rounds = int(min(max(_SECONDS / (once * len(steps)), _FEWEST), _MOST))
    fastest = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for k, step in steps.items():
            began = time.perf_counter()
            step(batch)
            fastest[k] = min(fastest[k], time.perf_counter() - began)
    return fastest


@contextmanager
def _taken_back(autosample: AutoSample) -> Iterator[None]:
    """Puts back, at the end, everything that steps change."""
    before = autosample.state()
    try:
        yield
    finally:
        autosample.go_back_to(before)

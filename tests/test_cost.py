"""Timing samplers beside the training leaves no trace in it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from worlds import (
    make_batch,
    small_specs,
    toy_feedback,
    toy_held_out,
    toy_model,
    toy_train,
)

from autosample_tf.autosample import AutoSample
from autosample_tf.cost import sampler_costs
from autosample_tf.optimizers import RowSparseAdam


def build(samplers: list[str]) -> AutoSample:
    autosample = AutoSample(
        toy_model("mf"),
        toy_train(),
        samplers=samplers,
        validation=toy_held_out(),
        given=toy_feedback().given,
    )
    autosample.compile(RowSparseAdam(0.1))
    return autosample


def batch() -> dict[str, tf.Tensor]:
    users = [0, 1, 2, 4]
    return make_batch(users, [int(toy_train().row(user)[0]) for user in users])


def test_every_active_sampler_has_a_cost() -> None:
    autosample = build(["rns", "dns:pool=6", "pns"])
    autosample.drop(["rns"])
    costs = sampler_costs(autosample, batch())
    assert set(costs) == set(autosample.survivors)
    assert all(np.isfinite(cost) for cost in costs.values())


def test_what_a_sampler_renews_in_a_step_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    autosample = build(["rns", "nscaching:cache=4,random=6"])
    renewed = []
    caching = autosample.samplers[1]
    monkeypatch.setattr(caching, "update", lambda *told: renewed.append(told))
    sampler_costs(autosample, batch())
    assert len(renewed) == 2  # traced in the steps of both and of it alone


def test_one_sampler_alone_has_none() -> None:
    assert sampler_costs(build(["rns"]), batch()) == {}


@pytest.mark.parametrize(
    "stateful", [("aobpr", "kbgan"), ("nscaching", "adasir"), ("srns", "dens")]
)
def test_timed_steps_are_taken_back(stateful: tuple[str, str]) -> None:
    """All that a step changes is as before: parameters, slots, logits, caches, metrics."""
    specs = [spec for spec in small_specs() if spec.partition(":")[0] in stateful]
    assert len(specs) == len(stateful)
    autosample = build(specs)
    autosample.train_step(batch())
    everything = [*autosample.changed_by_steps(), *autosample.variables]
    before = [variable.numpy() for variable in everything]
    sampler_costs(autosample, batch())
    for variable, value in zip(everything, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.name)
    autosample.train_step(batch())
    assert any((v.numpy() != value).any() for v, value in zip(everything, before, strict=True))

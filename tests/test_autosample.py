"""One optimizer step of every mixture against the same step by hand (`step_oracle`)."""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from step_oracle import Step, combination_of, draw, parameters, propagation_of, shares_of
from worlds import (
    ALL_BUT_ONE,
    NUM_USERS,
    WHOLE_CATALOGUE,
    Batch,
    kind_or_specs,
    make_batch,
    slow_but,
    small_specs,
    toy_feedback,
    toy_held_out,
    toy_model,
    toy_train,
)

from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import training_batches
from autosample_tf.samplers.contract import Context, Negatives, Sampler

MODELS = ["mf", "lightgcn", "ngcf"]
MIXINGS = ["loss", "instance"]
SAMPLER_SETS = [[spec] for spec in small_specs()] + [small_specs()]
STEPS = [
    *((kind, samplers) for kind in ("mf", "lightgcn") for samplers in SAMPLER_SETS),
    ("ngcf", small_specs()),
]
L2 = 0.1


def masked_and_padded_batch(step: int = 0) -> Batch:
    """Ten rows: a user without negatives, one often without, repeated users, two of padding."""
    train = toy_train()
    users = [0, 1, 2, WHOLE_CATALOGUE, 4, ALL_BUT_ONE, ALL_BUT_ONE, 0, 0, 0]
    positives = [int(train.row(user)[(3 * b + step) % len(train.row(user))]) for b, user in
                 enumerate(users)]  # fmt: skip
    return make_batch(users, positives, [10 / 8] * 8 + [0.0, 0.0], step)


def uneven_weights(specs: list[str]) -> dict[str, float]:
    """A mixture in which no two samplers weigh the same."""
    parts = np.arange(1.0, len(specs) + 1)
    return dict(zip(specs, parts / parts.sum(), strict=True))


def build(kind: str, samplers: list[Any], **settings: Any) -> AutoSample:
    settings = {"objective": "uniform", "l2": L2, "given": toy_feedback().given, **settings}
    return AutoSample(toy_model(kind), toy_train(), samplers=samplers, **settings)


def take_step(autosample: AutoSample, batch: Batch, optimizer: Any = None) -> dict[str, Any]:
    """One step as `fit` takes it, in a graph."""
    if optimizer is not None:
        autosample.compile(optimizer)
    history = autosample.fit(tf.data.Dataset.from_tensors(batch), epochs=1, verbose=0)
    return {name: values[0] for name, values in history.history.items()}


def sgd(rate: float = 0.5) -> tf.keras.optimizers.Optimizer:
    return tf.keras.optimizers.SGD(rate, jit_compile=False)


def oracle_of(autosample: AutoSample, batch: Batch) -> Step:
    """The step by hand, on the samplers' answers to this batch."""
    model, mixture = autosample.model, autosample.weights_by_spec()
    return Step(
        propagate=propagation_of(model, toy_train()),
        combine=combination_of(model),
        num_users=NUM_USERS,
        batch={name: tensor.numpy() for name, tensor in batch.items()},
        drawn=draw(autosample, batch),
        weights=np.array([mixture[spec] for spec in autosample.survivors]),
        mixing=autosample.mixing,
        l2=autosample.l2,
    )


def test_the_batch_has_unmasked_partly_masked_and_wholly_masked_rows() -> None:
    autosample = build("mf", small_specs())
    shares = shares_of(draw(autosample, masked_and_padded_batch()), np.ones(1))
    with_negative = (shares > 0).sum(axis=1)
    assert with_negative.max() == len(small_specs())
    assert with_negative[WHOLE_CATALOGUE] == 0
    assert any(0 < count < len(small_specs()) for count in with_negative)


def check_step_of_sgd(kind: str, samplers: list[Any], specs: list[str], **settings: Any) -> None:
    """Eagerly, for it is quick; in a graph, as `fit` does it, where mixture and loss are whole."""
    autosample = build(kind, samplers, weights=uneven_weights(specs), **settings)
    batch, before = masked_and_padded_batch(), parameters(autosample.model)
    loss, gradient = oracle_of(autosample, batch).loss_and_gradient(before)
    autosample.compile(sgd(0.5))
    whole = len(specs) == len(small_specs()) and autosample.l2 > 0
    step = take_step if whole else AutoSample.train_step
    logs = step(autosample, batch)
    assert np.abs(gradient).max() > 0.01  # a step that the tolerance can see
    np.testing.assert_allclose(parameters(autosample.model), before - 0.5 * gradient, atol=1e-5)
    np.testing.assert_allclose(logs["loss"], loss, atol=1e-5)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize(("kind", "samplers"), STEPS, ids=kind_or_specs)
def test_a_step_of_sgd_is_the_hand_written_step(
    kind: str, samplers: list[str], mixing: str
) -> None:
    check_step_of_sgd(kind, samplers, samplers, mixing=mixing)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("kind", MODELS)
def test_without_l2_a_step_of_all_samplers_is_the_hand_written_step(kind: str, mixing: str) -> None:
    check_step_of_sgd(kind, small_specs(), small_specs(), mixing=mixing, l2=0.0)


class TwoOfThree(Sampler):
    """The pool's first two allowed columns, 1/4 and 3/4, at twice the loss."""

    pool = 12

    def sample(self, context: Context) -> Negatives:
        order = tf.argsort(tf.cast(context.pool.allowed, tf.int32), direction="DESCENDING",
                           stable=True)[:, :2]  # fmt: skip
        items = tf.gather(context.pool.items, order, batch_dims=1)
        allowed = tf.gather(context.pool.allowed, order, batch_dims=1)
        both = tf.reduce_all(allowed, axis=1)
        weights = tf.cast(both, tf.float32)[:, None] * tf.constant([[0.25, 0.75]])
        return Negatives(items, weights, scale=2.0 * tf.ones_like(context.positive_scores))


@pytest.mark.parametrize("kind", MODELS)
def test_several_negatives_count_by_their_weights_and_a_scale_multiplies_the_loss(
    kind: str,
) -> None:
    own = TwoOfThree()
    check_step_of_sgd(kind, [own, "rns"], [own.spec, "rns"], mixing="loss")


def test_instance_mixing_has_no_scale() -> None:
    class Unscaled(TwoOfThree):
        def sample(self, context: Context) -> Negatives:
            return dataclasses.replace(super().sample(context), scale=None)

    tables = []
    for own in (TwoOfThree(), Unscaled()):
        autosample = build("mf", [own], mixing="instance")
        take_step(autosample, masked_and_padded_batch(), sgd())
        tables.append(parameters(autosample.model))
    np.testing.assert_array_equal(*tables)


def test_an_auxiliary_loss_is_weighted_by_p_without_gradient_to_the_logits() -> None:
    class Auxiliary(TwoOfThree):
        def sample(self, context: Context) -> Negatives:
            answer = super().sample(context)
            return dataclasses.replace(answer, auxiliary_loss=tf.constant(100.0))

    logs, logits = [], []
    for own in (TwoOfThree(), Auxiliary()):
        autosample = build("mf", ["rns", own], weights={"rns": 0.25, own.spec: 0.75},
                           objective="joint", logits_optimizer=sgd(1.0))  # fmt: skip
        logs.append(take_step(autosample, masked_and_padded_batch(), sgd())["loss"])
        logits.append(autosample.logits.numpy())
    assert logs[1] - logs[0] == pytest.approx(75.0, abs=1e-3)
    np.testing.assert_array_equal(*logits)


def rows_in(step: Step) -> np.ndarray:
    """The rows of the tables, users above items, that a batch names."""
    positives = step.batch["positive"] + step.num_users
    items = [positives, *(answer.items.ravel() for answer in step.drawn)]
    return np.union1d(step.batch["user"], np.concatenate(items))


@pytest.mark.parametrize("kind", MODELS)
def test_two_steps_of_row_sparse_adam_are_adam_on_the_touched_rows(kind: str) -> None:
    rate, beta_1, beta_2, epsilon = 0.05, 0.9, 0.999, 1e-8
    autosample = build(kind, ["rns", "dns:pool=6"])
    autosample.compile(RowSparseAdam(rate, beta_1, beta_2, epsilon))
    expected = parameters(autosample.model)
    mean, square = np.zeros_like(expected), np.zeros_like(expected)
    for step in range(2):
        batch = masked_and_padded_batch(step)
        by_hand = oracle_of(autosample, batch)
        gradient = by_hand.loss_and_gradient(expected)[1]
        # LightGCN's gradient is dense; MF's has the rows of the batch, weightless ones too.
        rows = rows_in(by_hand) if kind == "mf" else slice(None)
        mean[rows] = beta_1 * mean[rows] + (1 - beta_1) * gradient[rows]
        square[rows] = beta_2 * square[rows] + (1 - beta_2) * gradient[rows] ** 2
        unbiased = square[rows] / (1 - beta_2 ** (step + 1))
        expected[rows] -= (
            rate * mean[rows] / (1 - beta_1 ** (step + 1)) / (np.sqrt(unbiased) + epsilon)
        )
        take_step(autosample, batch)
        np.testing.assert_allclose(parameters(autosample.model), expected, atol=2e-5)


@pytest.mark.parametrize("objective", ["uniform", "joint", "validation"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_steps_graph_calls_no_python(kind: str, objective: str) -> None:
    autosample = build(kind, small_specs(), objective=objective, validation=toy_held_out())
    assert not {op for op in ops_of_a_step(autosample) if "PyFunc" in op}


def test_a_python_call_in_the_graph_would_be_seen() -> None:
    class InPython(TwoOfThree):
        def sample(self, context: Context) -> Negatives:
            answer = super().sample(context)
            items = tf.numpy_function(lambda x: x, [answer.items], tf.int32)
            return dataclasses.replace(answer, items=tf.ensure_shape(items, answer.items.shape))

    assert {op for op in ops_of_a_step(build("mf", [InPython()])) if "PyFunc" in op}


def ops_of_a_step(autosample: AutoSample) -> set[str]:
    """The types of all ops of the training step, those of its functions among them."""
    autosample.compile(sgd())
    batch = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for name, tensor in masked_and_padded_batch().items()
    }
    graph = tf.function(autosample.train_step).get_concrete_function(batch).graph.as_graph_def()
    inner = [node for function in graph.library.function for node in function.node_def]
    return {node.op for node in [*graph.node, *inner]}


def is_kept_after_training(autosample: AutoSample) -> bool:
    """Whether the graph of its steps outlives it."""
    autosample.compile(sgd(), steps_per_execution=3)
    autosample.fit(training_batches(toy_train(), 4, seed=0), steps_per_epoch=3, verbose=0)
    (traced,) = autosample.train_function._list_all_concrete_functions()
    graph = weakref.ref(traced.graph)
    del traced, autosample
    gc.collect()
    return graph() is not None


@pytest.mark.parametrize("kind", slow_but(["mf"], MODELS))
def test_nothing_of_a_step_is_kept_after_training(kind: str) -> None:
    settings = {"objective": "validation", "validation": toy_held_out()}
    kept = is_kept_after_training(build(kind, small_specs(), **settings))
    assert not kept  # within an assertion pytest would keep what is built


def test_a_graph_that_is_kept_would_be_seen() -> None:
    class WithGradient(TwoOfThree):
        def sample(self, context: Context) -> Negatives:
            @tf.custom_gradient
            def same(x: tf.Tensor) -> Any:
                return x, lambda upstream: upstream + 0.0 * x

            answer = super().sample(context)
            return dataclasses.replace(answer, weights=same(answer.weights))

    kept = is_kept_after_training(build("mf", [WithGradient()]))
    assert kept


@pytest.mark.parametrize("kind", MODELS)
def test_steps_of_one_call_are_the_same_one_by_one(kind: str) -> None:
    came_to = []
    for steps in (1, 3):
        autosample = build(kind, ["rns", "dns:pool=6"])
        autosample.compile(sgd(), steps_per_execution=steps)
        batches = training_batches(toy_train(), 4, seed=0)
        logs = autosample.fit(batches, steps_per_epoch=3, verbose=0).history
        came_to.append((parameters(autosample.model), logs["loss"]))
    (one_by_one, of_one), (in_one_call, of_several) = came_to
    assert np.abs(one_by_one - parameters(toy_model(kind))).max() > 1e-3
    np.testing.assert_allclose(in_one_call, one_by_one, atol=1e-6)
    assert of_several == pytest.approx(of_one, abs=1e-6)


@functools.cache
def two_replicas(*names: str) -> dict[str, dict[str, float]]:
    """What `two_replicas.py` prints: it needs a process whose CPU is split in two."""
    script = Path(__file__).with_name("two_replicas.py")
    paths = os.pathsep.join(path for path in sys.path if path)
    run = subprocess.run(
        [sys.executable, str(script), *names],
        env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


FAST_CASES = ("mf/validation", "mf/streamed", "mf/in-batch-softmax")
SLOW_CASES = ("mf/joint", "lightgcn/joint", "ngcf/joint")


@pytest.fixture(params=slow_but(FAST_CASES, FAST_CASES + SLOW_CASES))
def case(request: pytest.FixtureRequest) -> dict[str, float]:
    """What a step on two replicas is off one on one by."""
    name = request.param
    return two_replicas(*(FAST_CASES if name in FAST_CASES else SLOW_CASES))[name]


def test_two_replicas_take_the_step_of_one(case: dict[str, float]) -> None:
    assert case["moved"] > 0.01
    assert case["parameters"] < 1e-5
    assert case["loss"] < 1e-5
    assert case["logs"] < 1e-5  # each sampler's loss and weight


def test_two_replicas_leave_the_samplers_as_one(case: dict[str, float]) -> None:
    assert case["samplers_moved"] > 1e-6  # each of their variables
    assert case["samplers"] < 1e-5
    assert case["copies"] == 0


def test_two_replicas_move_the_logits_as_one(case: dict[str, float]) -> None:
    assert case["logits"] < 1e-4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"objective": "best"}, "joint, uniform, validation"),
        ({"mixing": "both"}, "instance, loss"),
        ({"loss": "warp"}, "bpr"),
        ({"objective": "validation"}, "validation="),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"temperature": float("nan")}, "temperature above 0"),
        ({"l2": -0.1}, "l2 of at least 0"),
        ({"weights": {"rns": 1.0}}, "dns:pool=6"),
        ({"weights": {"rns": 0.0, "dns:pool=6": 1.0}}, "above 0"),
        ({"weights": {"rns": 0.5, "dns:pool=6": 0.5, "pns": 0.5}}, "canonical"),
        ({"samplers": []}, "at least one sampler"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], named: str) -> None:
    settings = {"objective": "uniform", "samplers": ["rns", "dns:pool=6"], **settings}
    with pytest.raises(InputError, match=named):
        AutoSample(toy_model("mf"), toy_train(), **settings)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_given_weights_are_the_mixture_at_any_temperature(temperature: float) -> None:
    given = {"rns": 0.125, "dns:pool=6": 0.875}
    autosample = build("mf", list(given), weights=given, temperature=temperature)
    assert autosample.weights_by_spec() == pytest.approx(given, abs=1e-6)


def test_compute_loss_is_the_loss_of_the_step() -> None:
    autosample, batch = build("mf", small_specs()), masked_and_padded_batch()
    loss = autosample.compute_loss(batch).numpy()
    assert take_step(autosample, batch, sgd())["loss"] == pytest.approx(loss, abs=1e-6)


def test_a_batch_of_one_gives_a_sampler_of_its_other_positives_nothing() -> None:
    """No sum over its negatives is one of none, whose derivative would not be a number."""
    autosample = build(
        "mf", ["rns", "in-batch:n=3"], loss="sampled-softmax", objective="validation",
        validation=toy_held_out(),
    )  # fmt: skip
    take_step(autosample, make_batch([0], [int(toy_train().row(0)[0])]), sgd())
    assert np.isfinite(autosample.logits.numpy()).all()


@pytest.mark.parametrize(
    "optimizer", [tf.keras.optimizers.legacy.Adam, lambda: tf.keras.optimizers.legacy.SGD(0.1)]
)
def test_an_optimizer_whose_slots_come_late_is_refused(optimizer: Any) -> None:
    with pytest.raises(InputError, match="optimizer of Keras 2 .* received .*legacy"):
        build("mf", ["rns"]).compile(optimizer())


def test_optimizers_may_be_named() -> None:
    autosample = AutoSample(
        toy_model("mf"), toy_train(), samplers=["rns", "pns"], objective="joint",
        logits_optimizer="sgd", sampler_optimizer="adam",
    )  # fmt: skip
    autosample.compile("adagrad")
    assert autosample.logits_optimizer.name == "SGD"

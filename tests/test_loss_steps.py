"""One optimizer step under every loss and all samplers against the step by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from step_oracle import Cost, Drawn, bpr_cost, parameters, softplus
from test_autosample import build, masked_and_padded_batch, oracle_of, sgd, uneven_weights
from worlds import make_batch, small_specs, toy_held_out

from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.samplers import build_sampler

# `dens` scores parts of representations, `mixgcf` and `dins` choose by inner products of layers.
OF_COSINES = [spec for spec in small_specs() if not spec.startswith(("dens", "mixgcf", "dins"))]
KNOWING_Q = [spec for spec in small_specs() if build_sampler(spec).knows_log_q]


def softmax_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    """log(1 + sum_j m w_j exp((negative_j - positive) / 0.5)), m unmasked."""
    used = (answer.weights > 0).sum(axis=1, keepdims=True)
    return np.log1p((used * answer.weights * np.exp((negative - positive[:, None]) / 0.5)).sum(1))


def corrected_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    """log(1 + sum_j w_j / q_j exp(negative_j - positive))."""
    times = np.where(answer.weights > 0, answer.weights * np.exp(-answer.log_q), 0.0)
    return np.log1p((times * np.exp(negative - positive[:, None])).sum(axis=1))


def bce_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    has_negative = answer.weights.sum(axis=1)
    return has_negative * softplus(-positive) + (answer.weights * softplus(negative)).sum(axis=1)


def hinge_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    return (answer.weights * np.maximum(0.0, 1.0 - positive[:, None] + negative)).sum(axis=1)


def ccl_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    has_negative, beyond = answer.weights.sum(axis=1), np.maximum(0.0, negative - 0.1)
    return has_negative * (1 - positive) + 5.0 * (answer.weights * beyond).sum(axis=1)


def sharp_bpr_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    return bpr_cost(positive / 0.2, negative / 0.2, answer)


COSTS: dict[str, tuple[Cost, list[str]]] = {
    "bce": (bce_cost, small_specs()),
    "bpr:temperature=0.2": (sharp_bpr_cost, small_specs()),
    "bpr:temperature=0.2,cosine=True": (sharp_bpr_cost, OF_COSINES),
    "ccl:margin=0.1,negative_weight=5.0": (ccl_cost, OF_COSINES),
    "hinge": (hinge_cost, small_specs()),
    "sampled-softmax:temperature=0.5": (softmax_cost, small_specs()),
    "sampled-softmax:temperature=0.5,cosine=True": (softmax_cost, OF_COSINES),
    "sampled-softmax:log_q=True": (corrected_cost, KNOWING_Q),
}


PAIRWISE = [loss for loss in COSTS if not loss.startswith("sampled-softmax")]
CASES = [
    *(("mf", loss, "loss") for loss in COSTS),
    *(("mf", loss, "instance") for loss in PAIRWISE),
    ("lightgcn", "sampled-softmax:temperature=0.5,cosine=True", "loss"),
]


@pytest.mark.parametrize(("kind", "loss", "mixing"), CASES)
def test_a_step_of_all_samplers_is_the_hand_written_step(kind: str, loss: str, mixing: str) -> None:
    cost, specs = COSTS[loss]
    autosample = build(kind, specs, loss=loss, mixing=mixing, weights=uneven_weights(specs))
    batch, before = masked_and_padded_batch(), parameters(autosample.model)
    cosine = loss.startswith("ccl") or "cosine=True" in loss
    by_hand = dataclasses.replace(oracle_of(autosample, batch), cost=cost, cosine=cosine)
    value, gradient = by_hand.loss_and_gradient(before)
    autosample.compile(sgd(0.1))
    logs = autosample.train_step(batch)
    assert np.abs(gradient).max() > 0.01
    np.testing.assert_allclose(parameters(autosample.model), before - 0.1 * gradient, atol=1e-5)
    np.testing.assert_allclose(logs["loss"], value, rtol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_a_step_of_the_in_batch_softmax_is_the_hand_written_step(jit: bool) -> None:
    users, positives = [0, 1, 2, 4, 5], [3, 3, 1, 8, 0]
    batch = make_batch(users, positives, [5 / 4] * 4 + [0.0])
    autosample = build("mf", ["in-batch:n=1"], l2=0.0, loss="in-batch-softmax:temperature=0.5")
    before = parameters(autosample.model)
    among = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0],
                      [1, 1, 1, 1, 1]], bool)  # fmt: skip
    assert not autosample.sample(batch).available.numpy().all()  # which is of no matter here

    def loss(rows: np.ndarray) -> float:
        logits = rows[users] @ rows[np.array(positives) + 7].T / 0.5
        each = np.log(np.where(among, np.exp(logits), 0).sum(axis=1)) - np.diag(logits)
        return (each * batch["weight"].numpy()).mean()

    gradient = np.zeros_like(before)
    for place in np.ndindex(*before.shape):
        moved = np.zeros_like(before)
        moved[place] = 1e-5
        gradient[place] = (loss(before + moved) - loss(before - moved)) / 2e-5
    autosample.compile(sgd(0.5), jit_compile=jit)
    logs = tf.function(autosample.train_step, autograph=False)(batch)
    np.testing.assert_allclose(logs["loss"], loss(before), rtol=1e-5)
    np.testing.assert_allclose(parameters(autosample.model), before - 0.5 * gradient, atol=1e-5)
    if not jit:  # a compiled step's health is of the parameters that it came to
        of_users = np.linalg.norm(gradient[:7])
        assert autosample.health()["gradient_norm/in-batch:n=1"] == pytest.approx(of_users, 1e-3)


@pytest.mark.parametrize("loss", ["bpr", "sampled-softmax"])
def test_a_batch_of_one_has_no_negatives_in_its_batch(loss: str) -> None:
    autosample = build("mf", ["in-batch:n=3"], l2=0.0, loss=loss)
    before = parameters(autosample.model)
    autosample.compile(sgd(0.5))
    logs = autosample.train_step(make_batch([0], [3], [1.0]))
    assert logs["loss"] == 0
    np.testing.assert_array_equal(parameters(autosample.model), before)


@pytest.mark.parametrize("loss", ["ccl", "sampled-softmax:temperature=0.2,cosine=True"])
def test_the_signal_of_validation_reads_every_loss(loss: str) -> None:
    specs = ["rns", "dns:pool=6", "dns-mn:pool=6,top=3"]
    autosample = build("mf", specs, objective="validation", validation=toy_held_out(), loss=loss)
    autosample.compile(sgd())
    tf.function(autosample.train_step, autograph=False)(masked_and_padded_batch())
    logits = autosample.logits.numpy()
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0
    assert np.isfinite(list(autosample.health().values())).all()


@pytest.mark.parametrize("loss", ["sampled-softmax", "in-batch-softmax"])
def test_a_softmax_has_no_instance_mixing(loss: str) -> None:
    with pytest.raises(InputError, match="a pairwise loss with --mixing instance"):
        build("mf", ["in-batch:n=3"], loss=loss, mixing="instance")


@pytest.mark.parametrize(
    ("samplers", "loss", "named"),
    [
        (["rns"], "in-batch-softmax", "the sampler in-batch alone"),
        (["in-batch:n=1", "rns"], "in-batch-softmax", "received in-batch:n=1, rns"),
        (["rns", "dns:pool=6"], "sampled-softmax:log_q=True", "log_q; received dns:pool=6"),
    ],
)
def test_samplers_that_a_loss_cannot_take_are_refused(
    samplers: list[str], loss: str, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        build("mf", samplers, loss=loss)


def test_the_in_batch_softmax_refuses_a_model_that_is_no_dot_product() -> None:
    with pytest.raises(InputError, match="a model that derives from models.contract.DotProduct"):
        build("neumf", ["in-batch:n=1"], loss="in-batch-softmax")


@pytest.mark.parametrize("spec", small_specs())
def test_a_sampler_answers_log_q_if_it_says_so(spec: str) -> None:
    autosample: AutoSample = build("mf", [spec])
    (answer,) = autosample.sample(masked_and_padded_batch()).negatives
    assert (answer.log_q is not None) == build_sampler(spec).knows_log_q

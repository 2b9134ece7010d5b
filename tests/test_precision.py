"""`mixed_bfloat16`: the scores of a training step, their gradients, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import LEAST
from test_autosample import masked_and_padded_batch, sgd, take_step
from worlds import (
    NUM_ITEMS,
    NUM_USERS,
    slow_but,
    small_specs,
    toy_feedback,
    toy_held_out,
    toy_model,
)

import autosample_tf
from autosample_tf.autosample import AutoSample
from autosample_tf.evaluation import Ranker
from autosample_tf.models import MF, MODELS
from autosample_tf.models.contract import step_score, step_score_all
from autosample_tf.training import load_run

MIXED = "mixed_bfloat16"
ROUNDING = 2.0**-8  # of a bfloat16, relative


def in_precision(kind: str, dtype: str) -> Any:
    model = toy_model(kind)
    return type(model).from_config({**model.get_config(), "dtype": dtype})


def built(kind: str, dtype: str, specs: list[str] | None = None, **settings: Any) -> AutoSample:
    feedback = toy_feedback()
    return AutoSample(
        in_precision(kind, dtype), feedback.train, samplers=specs or small_specs(), l2=0.1,
        validation=toy_held_out(), given=feedback.given, **settings,
    )  # fmt: skip


@pytest.fixture
def mixed_globally() -> Iterator[None]:
    tf.keras.mixed_precision.set_global_policy(MIXED)
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def test_a_model_follows_the_global_policy_as_a_keras_layer_does(mixed_globally: None) -> None:
    model, layer = MF(NUM_USERS, NUM_ITEMS), tf.keras.layers.Dense(1)
    assert (model.compute_dtype, model.variable_dtype) == ("bfloat16", "float32")
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    assert {v.dtype for v in model.trainable_variables} == {tf.float32}


@pytest.mark.parametrize("score", [step_score, step_score_all])
def test_scores_are_products_in_bfloat16(score: Any) -> None:
    """Users (1, 1 + 2^-9) are (1, 1) in bfloat16, so that their product with (1, -1) is 0."""
    users, items = tf.constant([[1.0, 1 + 2.0**-9]]), tf.constant([[1.0, -1.0]])
    found = score(in_precision("mf", MIXED), users, items)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(tf.reshape(found, [-1]), [0.0])
    exact = score(in_precision("mf", "float32"), users, items)
    np.testing.assert_array_equal(tf.reshape(exact, [-1]), [-(2.0**-9)])


@pytest.mark.parametrize("kind", slow_but(["mf"], MODELS))
def test_a_step_is_float32s_but_for_the_rounding(kind: str) -> None:
    """Of samplers that choose nothing by score: a rounded one may be another's."""
    ends = []
    for dtype in ("float32", MIXED):
        autosample = built(kind, dtype, ["rns", "in-batch:n=3"], objective="uniform")
        loss = take_step(autosample, masked_and_padded_batch(), sgd(0.5))["loss"]
        tables = [table.numpy() for table in autosample.model.trainable_variables]
        ends.append(np.concatenate([[loss], *(table.ravel() for table in tables)]))
    assert np.abs(ends[0] - ends[1]).max() > 0
    np.testing.assert_allclose(ends[0], ends[1], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("kind", slow_but(["mf"], MODELS))
def test_bfloat16_is_in_products_sums_and_their_gradients_alone(kind: str) -> None:
    autosample = built(kind, MIXED)
    autosample.compile(sgd())
    batch = masked_and_padded_batch()
    graph = tf.function(autosample.train_step).get_concrete_function(batch).graph
    rounded = {
        op.type
        for op in graph.get_operations()
        if tf.bfloat16 in {tensor.dtype for tensor in op.inputs}
    }
    computing = {"Mul", "Sum", "MatMul", "BatchMatMulV2", "AddN", "AddV2", "Relu", "ReluGrad"}
    moving = {"Cast", "ExpandDims", "IdentityN", "Reshape", "Identity", "Shape", "Pack", "Fill",
              "Tile", "BroadcastTo", "PartitionedCall", "Split", "ConcatV2", "StridedSlice",
              "StridedSliceGrad", "Squeeze"}  # fmt: skip
    assert {"Mul", "Sum", "BatchMatMulV2"} <= rounded <= computing | moving


@pytest.mark.parametrize("kind", MODELS)
def test_evaluation_is_float32(kind: str) -> None:
    seen, users = toy_held_out(), np.arange(NUM_USERS)
    exact, mixed = (Ranker(in_precision(kind, d), seen, 5).rank(users) for d in ("float32", MIXED))
    np.testing.assert_array_equal(exact.items, mixed.items)
    np.testing.assert_array_equal(exact.scores, mixed.scores)


@pytest.mark.slow
def test_a_run_keeps_its_precision_and_a_retraining_may_take_another(
    small_data: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(LEAST, precision=MIXED)
    autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    trained = load_run(tmp_path / "run")
    assert trained.settings.precision == MIXED
    assert trained.model.compute_dtype == "bfloat16"
    changes = {"precision": "float32"}
    autosample_tf.retrain(tmp_path / "run", run_dir=tmp_path / "again", changes=changes)
    assert load_run(tmp_path / "again").model.compute_dtype == "float32"

"""`jit_compile`: XLA compiles the dense part of a step, which stays the step that it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import LEAST
from test_autosample import build, masked_and_padded_batch, parameters, sgd, take_step
from worlds import slow_but, small_specs, toy_held_out

import autosample_tf
from autosample_tf.cost import sampler_costs
from autosample_tf.errors import InputError
from autosample_tf.models import MODELS
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.settings import STANDARD_SET
from autosample_tf.stages.refusal import named_refusals
from autosample_tf.training import load_run

OPTIMIZERS = {
    "mf": RowSparseAdam,
    "neumf": RowSparseAdam,
    "ngcf": tf.keras.optimizers.Adam,
    "lightgcn": tf.keras.optimizers.Adam,
}


def stepped(kind: str, specs: list[Any], *, jit: bool, **settings: Any) -> dict[str, np.ndarray]:
    """What two steps leave, the second of them with moments and logits that are not 0."""
    autosample = build(kind, specs, validation=toy_held_out(), **settings)
    autosample.compile(OPTIMIZERS[kind](0.05), jit_compile=jit)
    first = take_step(autosample, masked_and_padded_batch())
    second = take_step(autosample, masked_and_padded_batch(1))
    samplers = [v for sampler in autosample.samplers for v in sampler.variables]
    return {
        "losses": np.array([*first.values(), *second.values()]),
        "parameters": parameters(autosample.model),
        "logits": autosample.logits.numpy(),
        "samplers": np.concatenate([[0.0], *(v.numpy().ravel() for v in samplers)]),
    }


def assert_equal(plain: dict[str, np.ndarray], compiled: dict[str, np.ndarray]) -> None:
    for name, values in plain.items():
        np.testing.assert_allclose(compiled[name], values, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("kind", slow_but(["mf"], MODELS))
def test_a_compiled_step_of_the_standard_set_is_the_step(kind: str) -> None:
    assert_equal(*(
        stepped(kind, list(STANDARD_SET), objective="validation", jit=jit) for jit in (False, True)
    ))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mixing", ["loss", "instance"])
@pytest.mark.parametrize("objective", ["joint", "validation"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_compiled_step_of_every_sampler_is_the_step(
    kind: str, objective: str, mixing: str
) -> None:
    assert_equal(*(
        stepped(kind, small_specs(), objective=objective, mixing=mixing, jit=jit)
        for jit in (False, True)
    ))  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_propagation_and_optimizers_are_outside_and_the_rest_is_not(kind: str) -> None:
    autosample = build(kind, ["rns", "softmax-dns:pool=6"])
    autosample.compile(OPTIMIZERS[kind](0.05), jit_compile=True)
    batch = masked_and_padded_batch()
    graph = tf.function(autosample.train_step).get_concrete_function(batch).graph.as_graph_def()
    functions = {each.signature.name: each for each in graph.library.function}
    compiled = called(functions, [k for k, v in functions.items() if v.attr["_XlaMustCompile"].b])
    inside = {node.op for name in compiled for node in functions[name].node_def}
    elsewhere = [functions[name].node_def for name in functions.keys() - compiled]
    outside = {node.op for nodes in [graph.node, *elsewhere] for node in nodes}
    assert {"StatelessRandomUniformIntV2", "BatchMatMulV2", "Softplus", "Softmax"} <= inside
    assert not {op for op in inside if "SparseMatrix" in op or "Assign" in op or "Scatter" in op}
    assert ("SparseMatrixMatMul" in outside) == (kind in ("lightgcn", "ngcf"))


def called(functions: dict[str, Any], names: list[str]) -> set[str]:
    """These functions and all that they call."""
    found, left = set(names), list(names)
    while left:
        for node in functions[left.pop()].node_def:
            callees = {attr.func.name for attr in node.attr.values()} & functions.keys() - found
            found |= callees
            left += callees
    return found


IN_TEXT = """
import tensorflow as tf
from autosample_tf.samplers.uniform import RNS

class InText(RNS):
    def sample(self, context):
        answer = super().sample(context)
        items = tf.strings.to_number(tf.strings.as_string(answer.items), tf.int32)
        return type(answer)(items, answer.weights)
"""


@pytest.fixture
def in_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The spec of a sampler of one's own that XLA has no kernels for."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "texts.py").write_text(IN_TEXT)
    monkeypatch.syspath_prepend(tmp_path)
    return "mine.texts:InText"


def test_a_sampler_that_xla_refuses_is_named(
    in_text: str, small_data: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(LEAST, samplers=("rns", in_text), jit=True)
    with pytest.raises(InputError) as refused:
        autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert str(refused.value) == (
        "Expected samplers that XLA can compile, with --jit; received mine.texts:InText. "
        "Leave it out, or train without --jit."
    )


def test_an_error_that_is_no_samplers_comes_through() -> None:
    autosample = build("mf", ["rns"])
    autosample.compile(sgd(), jit_compile=True)
    failing = tf.errors.InvalidArgumentError(None, None, "of another kind")
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="of another kind"),
        named_refusals(autosample, masked_and_padded_batch),
    ):
        raise failing


def test_nobody_is_blamed_where_nothing_is_compiled() -> None:
    autosample = build("mf", ["rns"])
    autosample.compile(sgd())
    failing = tf.errors.UnimplementedError(None, None, "of another kind")
    with pytest.raises(tf.errors.UnimplementedError), named_refusals(autosample, dict):
        raise failing


def test_costs_are_not_told_of_compiled_steps() -> None:
    autosample = build("mf", ["rns", "dns:pool=6"])
    autosample.compile(sgd(), jit_compile=True)
    assert sampler_costs(autosample, masked_and_padded_batch()) == {}


@pytest.mark.slow
def test_a_run_keeps_jit_and_a_retraining_may_leave_it(small_data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(LEAST, jit=True)
    autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    assert load_run(tmp_path / "run").settings.jit
    autosample_tf.retrain(tmp_path / "run", run_dir=tmp_path / "r", changes={"jit": False})
    assert not load_run(tmp_path / "r").settings.jit

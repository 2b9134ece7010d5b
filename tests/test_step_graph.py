"""The step's graph on a GPU, as far as it can be told without one.

TensorFlow's wheels for Linux register the GPU's kernels also where there is no GPU, with the
arguments that a kernel keeps in host memory. From these and the graph of a step follows

- whether some operation has no GPU kernel for its types, and would run on the CPU;
- where a kernel reads in host memory what another one left on the GPU, so that the GPU's
  stream is waited for: a round trip. Most are int32: TensorFlow's kernels for integers of that
  kind (Equal, ConcatV2, StridedSlice, Reshape …) compute on the CPU, since shapes are int32.

Not seen: which of these the optimizer of graphs takes away; what XLA makes of the part that
it compiles, in which int32 stay on the GPU; round trips within a kernel, as `Unique` has one
for the number of its results; speed. `benchmarks/gpu.py` is for a machine with a GPU.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels
from test_autosample import build, masked_and_padded_batch
from worlds import slow_but, small_specs, toy_held_out

from autosample_tf.models import MODELS
from autosample_tf.optimizers import FusedAdam, RowSparseAdam
from autosample_tf.settings import STANDARD_SET

CALLS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "Case"}
OPTIMIZERS = {
    "neumf": RowSparseAdam,
    "mf": RowSparseAdam,
    "lightgcn": functools.partial(FusedAdam, jit_compile=False),
    "ngcf": functools.partial(FusedAdam, jit_compile=False),
}
# What a compiled step still waits for: whether to take one of two branches, a look at the
# negatives and aobpr's new orders, each in one step of many.
BRANCHES = {("Equal", "If"): 1, ("LogicalOr", "If"): 1}
# With MF besides: how many rows a sparse gradient touches; and the step's pool, drawn again
# beside XLA for aobpr's update, which does not read it, but to look rows of a variable up counts
# as an effect that cannot be left out.
OF_TABLES = {
    **BRANCHES,
    ("Unique", "Shape"): 2,
    ("StatelessRandomUniformIntV2", "ExpandDims"): 1,
    ("Tile", "Reshape"): 1,
    ("Cast", "Reshape"): 1,
}
KNOWN = {"lightgcn": BRANCHES, "ngcf": BRANCHES, "mf": OF_TABLES, "neumf": OF_TABLES}


def graph_of_a_step(kind: str, specs: list[str], *, jit: bool, **settings: Any) -> tf.Graph:
    autosample = build(kind, specs, validation=toy_held_out(), objective="validation", **settings)
    autosample.compile(OPTIMIZERS[kind](0.01), jit_compile=jit)
    step = tf.function(autosample.train_step, autograph=False)
    return step.get_concrete_function(masked_and_padded_batch()).graph


def operations(graph: tf.Graph) -> set[tf.Operation]:
    """Those that run: what the outputs and the assignments lead back to."""
    todo = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    found: set[tf.Operation] = set()
    while todo:
        operation = todo.pop()
        if operation not in found:
            found.add(operation)
            todo += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return found


@functools.cache
def gpu_kernels(kind: str) -> list[Any]:
    """Of an operation, those that TensorFlow prefers first."""
    registered = kernels.get_registered_kernels_for_op(kind).kernel
    usable = [kernel for kernel in registered if kernel.device_type in ("GPU", "DEFAULT")]
    return sorted(usable, key=lambda kernel: (-kernel.priority, kernel.device_type != "GPU"))


def gpu_kernel(operation: tf.Operation) -> Any:
    """The one for the operation's types, or None."""

    def fits(constraint: Any) -> bool:
        types = operation.get_attr(constraint.name)
        types = types if isinstance(types, (list, tuple)) else [types]
        return {tf.as_dtype(t).as_datatype_enum for t in types} <= set(
            constraint.allowed_values.list.type
        )

    fitting = (k for k in gpu_kernels(operation.type) if all(map(fits, k.constraint)))
    return next(fitting, None)


def in_host_memory(operation: tf.Operation, *, outputs: bool) -> list[bool]:
    """For each input or output, whether the GPU's kernel has it in host memory."""
    values = operation.outputs if outputs else operation.inputs
    if operation.type == "Placeholder":  # a function's argument; TensorFlow's rule for those
        return [value.dtype in (tf.int32, tf.resource) for value in values]
    on_host = set(gpu_kernel(operation).host_memory_arg)
    arguments = operation.op_def.output_arg if outputs else operation.op_def.input_arg
    names = [
        name for argument in arguments for name in [argument.name] * count(operation, argument)
    ]
    compiled = "_XlaMustCompile" in operation.node_def.attr
    also = {tf.int32} if operation.type in CALLS and not compiled else set()
    return [
        name in on_host or value.dtype in also for name, value in zip(names, values, strict=True)
    ]


def count(operation: tf.Operation, argument: Any) -> int:
    """How many tensors an argument stands for."""
    if argument.number_attr:
        return operation.get_attr(argument.number_attr)
    return len(operation.get_attr(argument.type_list_attr)) if argument.type_list_attr else 1


def round_trips(graph: tf.Graph) -> Counter[tuple[str, str]]:
    """How often each kind of operation waits on the CPU for each kind on the GPU."""
    return Counter(
        (tensor.op.type, operation.type)
        for operation in operations(graph)
        for tensor, on_host in zip(
            operation.inputs, in_host_memory(operation, outputs=False), strict=True
        )
        if on_host
        and tensor.op.type != "Const"  # is made where it is needed
        and not in_host_memory(tensor.op, outputs=True)[tensor.value_index]
    )


@pytest.fixture(autouse=True)
def _registry() -> None:
    if not gpu_kernels("MatMul"):
        pytest.skip("this TensorFlow was built without GPU kernels")


def without_a_kernel(graph: tf.Graph) -> set[str]:
    bodies = [body for operation in operations(graph) for body in branches(graph, operation)]
    return {
        f"{operation.type} of {_type(operation)}"
        for each in (graph, *bodies)
        for operation in operations(each)
        if operation.type != "Placeholder" and gpu_kernel(operation) is None
    }


def _type(operation: tf.Operation) -> str:
    """Of what it computes with, which a table's operations call otherwise."""
    name = "dtype" if "dtype" in operation.node_def.attr else "T"
    return operation.get_attr(name).name


def branches(graph: tf.Graph, operation: tf.Operation) -> list[tf.Graph]:
    """The graphs of a conditional's branches."""
    if operation.type not in ("If", "StatelessIf"):
        return []
    names = [operation.get_attr(name).name for name in ("then_branch", "else_branch")]
    return [graph._get_function(name).graph for name in names]


@pytest.mark.parametrize("kind", slow_but(["mf", "lightgcn"], MODELS))
def test_every_operation_of_every_sampler_has_a_gpu_kernel(kind: str) -> None:
    assert not without_a_kernel(graph_of_a_step(kind, small_specs(), jit=False))


def test_no_variable_is_int32_which_would_stay_with_the_cpu() -> None:
    """There XLA on a GPU could not read it: it fails."""
    autosample = build("mf", small_specs())
    autosample.compile(RowSparseAdam())
    assert tf.int32 not in {
        v.dtype for v in (*autosample.variables, *autosample.changed_by_steps())
    }


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What samplers look up is kept as where TensorFlow sees a GPU."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [f"a {kind}"])


def constants(graph: tf.Graph) -> set[tf.DType]:
    """The types of what a step reads besides variables and the batch."""
    return {tensor.dtype for tensor, _ in graph.captures} - {tf.resource}


@pytest.mark.parametrize("kind", slow_but(["lightgcn"], MODELS))
def test_what_a_step_looks_up_is_not_copied_to_a_gpu_in_every_step(kind: str, a_gpu: None) -> None:
    graph = graph_of_a_step(kind, small_specs(), jit=True)
    assert tf.int64 in constants(graph)
    assert tf.int32 not in constants(graph)


def test_on_a_cpu_it_takes_half_as_much_memory() -> None:
    assert tf.int32 in constants(graph_of_a_step("mf", small_specs(), jit=True))


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_is_kept_for_a_gpu_tells_the_same(jit: bool, request: pytest.FixtureRequest) -> None:
    def losses() -> np.ndarray:
        autosample = build("mf", small_specs(), validation=toy_held_out(), objective="validation")
        autosample.compile(RowSparseAdam(0.01), jit_compile=jit)
        return autosample.descend(masked_and_padded_batch())[1].numpy()

    before = losses()
    request.getfixturevalue("a_gpu")
    np.testing.assert_array_equal(losses(), before)


def test_an_operation_without_one_would_be_seen() -> None:
    @tf.function(autograph=False)
    def first(x: tf.Tensor) -> tf.Tensor:
        return tf.argmax(tf.cast(x, tf.int8), axis=1)

    graph = first.get_concrete_function(tf.TensorSpec([2, 2], tf.bool)).graph
    assert without_a_kernel(graph) == {"ArgMax of int8"}


@pytest.mark.parametrize("kind", MODELS)
def test_a_compiled_step_waits_for_the_cpu_where_it_is_known_to(kind: str) -> None:
    graph = graph_of_a_step(kind, list(STANDARD_SET), jit=True)
    assert {op.type for op in operations(graph)} & {"StatefulPartitionedCall", "PartitionedCall"}
    assert round_trips(graph) == KNOWN[kind]


def test_a_step_that_is_not_compiled_waits_more_often() -> None:
    """Why `--jit` is for GPUs: item ids are int32."""
    trips = round_trips(graph_of_a_step("mf", list(STANDARD_SET), jit=False))
    assert sum(trips.values()) > 10
    assert trips.keys() - KNOWN["mf"].keys()

"""RowSparseAdam against NumPy, against Keras' Adam, through checkpoints and strategies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.optimizers import FusedAdam, RowSparseAdam

ROWS, DIM = 6, 3
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

SparseGradient = tuple[list[int], np.ndarray]  # rows, repeats allowed, and their values


class NumpyAdam:
    """Algorithm 1 of Kingma & Ba in float64, on the touched rows only."""

    def __init__(
        self,
        start: np.ndarray,
        rate: Callable[[int], float],
        betas: tuple[float, float] = (BETA_1, BETA_2),
        epsilon: float = EPSILON,
    ):
        self.table = np.array(start, np.float64)
        self.mean, self.square = np.zeros_like(self.table), np.zeros_like(self.table)
        self.rate, self.betas, self.epsilon, self.step = rate, betas, epsilon, 0

    def apply(self, gradient: np.ndarray, rows: list[int]) -> None:
        beta_1, beta_2 = self.betas
        rate, self.step = self.rate(self.step), self.step + 1
        for row in rows:
            g = gradient[row]
            self.mean[row] = beta_1 * self.mean[row] + (1 - beta_1) * g
            self.square[row] = beta_2 * self.square[row] + (1 - beta_2) * g**2
            m_hat = self.mean[row] / (1 - beta_1**self.step)
            v_hat = self.square[row] / (1 - beta_2**self.step)
            self.table[row] -= rate * m_hat / (np.sqrt(v_hat) + self.epsilon)

    def apply_sparse(self, gradient: SparseGradient) -> None:
        rows, values = gradient
        dense = np.zeros_like(self.table)
        np.add.at(dense, rows, values)  # repeated rows add up
        self.apply(dense, sorted(set(rows)))


def start_table(dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(dtype)


def as_slices(gradient: SparseGradient, dtype: type = np.float64) -> tf.IndexedSlices:
    rows, values = gradient
    return tf.IndexedSlices(tf.constant(values, dtype), tf.constant(rows), tf.constant([ROWS, DIM]))


def some_gradients(rows_of_steps: list[list[int]], seed: int = 1) -> list[SparseGradient]:
    rng = np.random.default_rng(seed)
    return [(rows, rng.normal(size=(len(rows), DIM))) for rows in rows_of_steps]


def moments(optimizer: RowSparseAdam, variable: tf.Variable) -> list[np.ndarray]:
    """Adam's means and squares, of which the optimizer keeps the sums."""
    sums = [v.numpy() for v in optimizer.variables if v.shape == variable.shape]
    betas = optimizer.beta_1, optimizer.beta_2
    return [(1 - beta) * each for beta, each in zip(betas, sums, strict=True)]


# A rate that float32, in which Keras keeps it, holds exactly; tables are float64, so that
# the comparison can be exact.
RATE = 0.125


@pytest.mark.parametrize(
    "rows_of_steps",
    [
        [[2]],
        [[0, 1, 2, 3, 4, 5]],
        [[4, 1]],
        [[3, 3]],
        [[5, 0, 5, 5, 2, 0]],
        [[0, 1], [1, 2], [1, 1, 0], [5], [0, 1, 2, 3, 4, 5], [3, 3, 3, 4]],
    ],
)
def test_sparse_steps_are_adam_on_the_touched_rows(rows_of_steps: list[list[int]]) -> None:
    variable, oracle = tf.Variable(start_table()), NumpyAdam(start_table(), lambda step: RATE)
    optimizer = RowSparseAdam(RATE)
    for gradient in some_gradients(rows_of_steps):
        optimizer.apply_gradients([(as_slices(gradient), variable)])
        oracle.apply_sparse(gradient)
        np.testing.assert_allclose(variable, oracle.table, rtol=1e-10)
        mean, square = moments(optimizer, variable)
        np.testing.assert_allclose(mean, oracle.mean, rtol=1e-10, atol=1e-15)
        np.testing.assert_allclose(square, oracle.square, rtol=1e-10, atol=1e-15)


def test_the_first_step_by_hand() -> None:
    # With t = 1 the corrected moments are g and g^2: each entry moves by rate * g / (|g| + eps).
    variable = tf.Variable(tf.zeros([2, 2], tf.float64))
    gradient = tf.IndexedSlices(tf.constant([[3.0, -0.5]], tf.float64), tf.constant([1]))
    RowSparseAdam(RATE, epsilon=0.5).apply_gradients([(gradient, variable)])
    expected = [[0, 0], [-RATE * 3 / 3.5, RATE * 0.5 / 1.0]]
    np.testing.assert_allclose(variable, expected, rtol=1e-10)


def test_repeated_rows_are_summed_before_they_are_squared() -> None:
    # Gradients 2 and -1 of one row are a gradient of 1, not two steps, nor 4 + 1 squared.
    variable = tf.Variable(tf.zeros([2, 1], tf.float64))
    optimizer = RowSparseAdam(RATE)
    gradient = tf.IndexedSlices(tf.constant([[2.0], [-1.0]], tf.float64), tf.constant([0, 0]))
    optimizer.apply_gradients([(gradient, variable)])
    mean, square = moments(optimizer, variable)
    assert mean[0, 0] == pytest.approx((1 - BETA_1) * 1)
    assert square[0, 0] == pytest.approx((1 - BETA_2) * 1)
    assert variable.numpy()[0, 0] == pytest.approx(-RATE, rel=1e-7)


def test_untouched_rows_and_their_moments_stay_as_they_are_to_the_last_bit() -> None:
    variable, optimizer = tf.Variable(start_table(np.float32)), RowSparseAdam(RATE)
    everything, few = some_gradients([[0, 1, 2, 3, 4, 5], [1, 4, 1]])
    optimizer.apply_gradients([(as_slices(everything, np.float32), variable)])  # moments are not 0
    before = [variable.numpy(), *moments(optimizer, variable)]
    for _ in range(3):
        optimizer.apply_gradients([(as_slices(few, np.float32), variable)])
    after = [variable.numpy(), *moments(optimizer, variable)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[[0, 2, 3, 5]], old[[0, 2, 3, 5]])
        assert (new[[1, 4]] != old[[1, 4]]).all()


def test_bias_is_corrected_by_the_global_step_also_for_a_rows_first_gradient() -> None:
    # Row 0 is first touched in step 3: m = 0.1 g, v = 0.001 g^2, corrected with t = 3.
    variable, optimizer = tf.Variable(start_table()), RowSparseAdam(RATE)
    for gradient in some_gradients([[1], [2]]):
        optimizer.apply_gradients([(as_slices(gradient), variable)])
    optimizer.apply_gradients([(as_slices(([0], np.ones((1, DIM)))), variable)])
    move = 0.1 / (1 - 0.9**3) / np.sqrt(0.001 / (1 - 0.999**3))
    np.testing.assert_allclose(variable[0], start_table()[0] - RATE * move, rtol=1e-7)


def test_a_dense_gradient_moves_every_row() -> None:
    variable, oracle = tf.Variable(start_table()), NumpyAdam(start_table(), lambda step: RATE)
    optimizer, rng = RowSparseAdam(RATE), np.random.default_rng(2)
    for _ in range(4):
        gradient = rng.normal(size=(ROWS, DIM))
        gradient[3] = 0.0  # a dense zero is a gradient: its moments decay
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        oracle.apply(gradient, list(range(ROWS)))
    np.testing.assert_allclose(variable, oracle.table, rtol=1e-10)


@pytest.mark.parametrize("sparse", [False, True])
def test_where_every_row_is_touched_it_is_adam_as_keras_has_it(sparse: bool) -> None:
    # Keras adds epsilon before correcting the bias; 1e-8 beside gradients near 1 is nothing.
    ours, theirs = (tf.Variable(start_table(np.float32)) for _ in range(2))
    optimizer = RowSparseAdam(0.1)
    keras = tf.keras.optimizers.Adam(0.1, epsilon=1e-8, jit_compile=False)
    rng = np.random.default_rng(3)
    for _ in range(8):
        values = rng.normal(size=(ROWS, DIM)).astype(np.float32)
        slices = as_slices((list(range(ROWS)), values), np.float32)
        optimizer.apply_gradients([(slices if sparse else tf.constant(values), ours)])
        keras.apply_gradients([(tf.constant(values), theirs)])
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_fused_adam_is_keras_adam(in_graph: bool, amsgrad: bool) -> None:
    ours, theirs = (tf.Variable(start_table(np.float32)) for _ in range(2))
    schedule = tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    fused, keras = (
        own(schedule, epsilon=1e-3, amsgrad=amsgrad, jit_compile=False)
        for own in (FusedAdam, tf.keras.optimizers.Adam)
    )
    fused.build([ours])
    keras.build([theirs])

    def step(values: tf.Tensor) -> None:
        fused.apply_gradients([(values, ours)])
        keras.apply_gradients([(values, theirs)])

    taken = tf.function(step) if in_graph else step
    rng = np.random.default_rng(7)
    for _ in range(6):
        taken(tf.constant(rng.normal(size=(ROWS, DIM)).astype(np.float32)))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours.numpy() - start_table(np.float32)).min() > 1e-3
    for one, other in zip(fused.variables, keras.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_fused_adam_takes_sparse_gradients_as_keras_adam_does() -> None:
    ours, theirs = (tf.Variable(start_table(np.float32)) for _ in range(2))
    for variable, own in ((ours, FusedAdam), (theirs, tf.keras.optimizers.Adam)):
        optimizer = own(0.1, jit_compile=False)
        for gradient in some_gradients([[0, 1, 1], [2, 1]]):
            rows, values = gradient
            slices = as_slices((rows, values.astype(np.float32)), np.float32)
            optimizer.apply_gradients([(slices, variable)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_fused_adam_comes_back_from_its_config() -> None:
    config = FusedAdam(0.03, beta_1=0.8, jit_compile=False).get_config()
    again = FusedAdam.from_config(config)
    assert type(again) is FusedAdam
    assert again.get_config() == config


def test_epsilon_is_added_after_the_correction_of_bias() -> None:
    # Ours: g / (sqrt(g^2) + eps). Keras: sqrt(1 - b2) * g / (sqrt((1 - b2) g^2) + eps'), the
    # same for eps' = eps * sqrt(1 - b2) in the first step.
    gradient = tf.constant([[0.25, -2.0]])
    ours, theirs, naive = (tf.Variable([[0.0, 0.0]]) for _ in range(3))
    RowSparseAdam(0.1, epsilon=0.5).apply_gradients([(gradient, ours)])
    for variable, epsilon in ((theirs, 0.5 * (1 - 0.999) ** 0.5), (naive, 0.5)):
        keras = tf.keras.optimizers.Adam(0.1, epsilon=epsilon, jit_compile=False)
        keras.apply_gradients([(gradient, variable)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert np.abs(ours.numpy() - naive.numpy()).max() > 0.01


def test_several_variables_keep_their_own_moments() -> None:
    starts = [start_table(), np.ones((2, 5)), np.zeros(4)]
    variables = [tf.Variable(start) for start in starts]
    oracles = [NumpyAdam(start, lambda step: RATE) for start in starts]
    optimizer, rng = RowSparseAdam(RATE), np.random.default_rng(4)
    for _ in range(3):
        gradients = [rng.normal(size=start.shape) for start in starts]
        optimizer.apply_gradients(zip(map(tf.constant, gradients), variables, strict=True))
        for oracle, gradient in zip(oracles, gradients, strict=True):
            oracle.apply(gradient, list(range(len(gradient))))
    for variable, oracle in zip(variables, oracles, strict=True):
        np.testing.assert_allclose(variable, oracle.table, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_gather_in_a_graph_is_a_sparse_step() -> None:
    # loss = sum over rows r of c_r . table[r], row 2 twice: dloss/dtable[2] = c_0 + c_2.
    variable, oracle = tf.Variable(start_table()), NumpyAdam(start_table(), lambda step: RATE)
    rows, coefficients = [2, 5, 2], np.random.default_rng(5).normal(size=(3, DIM))
    optimizer = RowSparseAdam(RATE)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(variable, rows) * coefficients)
        gradient = tape.gradient(loss, variable)
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply_gradients([(gradient, variable)])

    for _ in range(3):
        step()
        oracle.apply_sparse((rows, coefficients))
    np.testing.assert_allclose(variable, oracle.table, rtol=1e-10)


def test_it_trains_a_compiled_keras_model_to_the_oracles_weights() -> None:
    table = tf.keras.layers.Embedding(ROWS, DIM, embeddings_initializer="ones")
    model = tf.keras.Sequential([table])
    optimizer = RowSparseAdam(RATE)
    model.compile(optimizer, loss=lambda _, y: tf.reduce_sum(y, axis=[1, 2]))
    x = np.array([[1], [4], [1]])
    model.fit(x, np.zeros(3), batch_size=3, epochs=2, verbose=0)
    # The loss is the batch's mean of the entries' sum: rows 1 and 4 have gradients 2/3, 1/3.
    oracle = NumpyAdam(np.ones((ROWS, DIM)), lambda step: RATE)
    for _ in range(2):
        oracle.apply_sparse(([1, 4, 1], np.full((3, DIM), 1 / 3)))
    np.testing.assert_allclose(table.embeddings, oracle.table, rtol=1e-4)


# --- learning rates


def test_a_schedule_is_read_at_each_step() -> None:
    # Keras evaluates it at the number of steps already taken: 0, 1, 2, …
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([0, 2], [0.5, 0.25, 0.125])
    rates = [0.5, 0.25, 0.25, 0.125, 0.125]
    variable, oracle = tf.Variable(start_table()), NumpyAdam(start_table(), rates.__getitem__)
    optimizer = RowSparseAdam(schedule)
    for gradient in some_gradients([[0, 1], [1], [0, 0], [3, 1], [2]]):
        optimizer.apply_gradients([(as_slices(gradient), variable)])
        oracle.apply_sparse(gradient)
    np.testing.assert_allclose(variable, oracle.table, rtol=1e-10)


def test_the_learning_rate_can_be_set_between_steps() -> None:
    rates = [0.5, 0.0625]
    variable, oracle = tf.Variable(start_table()), NumpyAdam(start_table(), rates.__getitem__)
    optimizer = RowSparseAdam(rates[0])
    first, second = some_gradients([[0, 1], [1, 2]])
    for rate, gradient in zip(rates, (first, second), strict=True):
        optimizer.learning_rate = rate
        optimizer.apply_gradients([(as_slices(gradient), variable)])
        oracle.apply_sparse(gradient)
    np.testing.assert_allclose(variable, oracle.table, rtol=1e-10)


# --- configuration and checkpoints


def build_other() -> RowSparseAdam:
    return RowSparseAdam(0.25, beta_1=0.5, beta_2=0.75, epsilon=0.125, name="other")


def build_scheduled() -> RowSparseAdam:
    schedule = tf.keras.optimizers.schedules.ExponentialDecay(0.5, decay_steps=2, decay_rate=0.25)
    return RowSparseAdam(schedule, beta_1=0.5)


def take_steps(
    optimizer: RowSparseAdam, variable: tf.Variable, gradients: list[SparseGradient]
) -> np.ndarray:
    for gradient in gradients:
        optimizer.apply_gradients([(as_slices(gradient), variable)])
    return variable.numpy()


def test_every_setting_reaches_the_formula() -> None:
    oracle = NumpyAdam(start_table(), lambda step: 0.25, betas=(0.5, 0.75), epsilon=0.125)
    gradients = some_gradients([[0, 1], [1, 2, 1], [5, 0]])
    for gradient in gradients:
        oracle.apply_sparse(gradient)
    moved = take_steps(build_other(), tf.Variable(start_table()), gradients)
    np.testing.assert_allclose(moved, oracle.table, rtol=1e-10)


@pytest.mark.parametrize("build", [build_other, build_scheduled])
@pytest.mark.parametrize("through_json", [False, True])
def test_the_configuration_round_trip_behaves_identically(
    build: Callable[[], RowSparseAdam], through_json: bool
) -> None:
    config = build().get_config()
    if through_json:
        config = json.loads(json.dumps(config, default=float))  # Keras gives the rate as float32
    again = RowSparseAdam.from_config(config)
    assert again.get_config() == build().get_config()
    gradients = some_gradients([[0, 1], [1, 2, 1], [5, 0]])
    np.testing.assert_array_equal(
        take_steps(again, tf.Variable(start_table()), gradients),
        take_steps(build(), tf.Variable(start_table()), gradients),
    )


def test_the_configuration_has_every_setting() -> None:
    config = build_other().get_config()
    settings = {"learning_rate": 0.25, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.125}
    assert config["name"] == "other"
    assert {name: config[name] for name in settings} == settings


def test_keras_serializes_it() -> None:
    stored = tf.keras.optimizers.serialize(build_other())
    again = tf.keras.optimizers.deserialize(stored, custom_objects={"RowSparseAdam": RowSparseAdam})
    assert isinstance(again, RowSparseAdam)
    assert again.get_config() == build_other().get_config()


@pytest.mark.parametrize("build", [build_other, build_scheduled])
def test_a_restored_checkpoint_goes_on_identically(
    tmp_path: Path, build: Callable[[], RowSparseAdam]
) -> None:
    gradients = some_gradients([[0, 1], [1, 2, 1], [5, 0], [1], [0, 5, 5]])
    whole = take_steps(build(), tf.Variable(start_table()), gradients)

    optimizer, variable = build(), tf.Variable(start_table())
    take_steps(optimizer, variable, gradients[:3])
    path = tf.train.Checkpoint(optimizer=optimizer, table=variable).save(str(tmp_path / "c"))

    optimizer, variable = build(), tf.Variable(np.zeros((ROWS, DIM)))
    status = tf.train.Checkpoint(optimizer=optimizer, table=variable).restore(path)
    resumed = take_steps(optimizer, variable, gradients[3:])
    status.assert_existing_objects_matched()
    np.testing.assert_array_equal(resumed, whole)
    assert optimizer.iterations.numpy() == len(gradients)


# --- distribution

# Its own process: logical devices can be made only before TensorFlow starts.
TWO_REPLICAS = """
import json, sys
import numpy as np
import autosample_tf
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from autosample_tf import optimizers

given = json.load(sys.stdin)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    table = tf.Variable(np.array(given["start"]))
    optimizer = getattr(optimizers, given["optimizer"])(given["rate"], epsilon=1e-8)


@tf.function
def step(rows, values):
    def replica():
        which = tf.distribute.get_replica_context().replica_id_in_sync_group
        with tf.GradientTape() as tape:
            read = table if given["optimizer"] == "RowSparseAdam" else 1.0 * table  # all rows
            loss = tf.reduce_sum(tf.gather(read, rows[which]) * values[which])
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    strategy.run(replica)


for rows, values in given["steps"]:
    step(tf.constant(rows), tf.constant(values, tf.float64))
tables = [copy.numpy().tolist() for copy in strategy.experimental_local_results(table)]
json.dump({"tables": tables, "steps": int(optimizer.iterations.numpy())}, sys.stdout)
"""


@pytest.mark.parametrize("optimizer", ["FusedAdam", "RowSparseAdam"])
def test_two_replicas_take_the_step_of_their_summed_gradients(optimizer: str) -> None:
    # Per step and replica two rows, with rows in common within and across the replicas.
    rows_of_steps = [[[0, 1], [1, 2]], [[3, 3], [3, 0]], [[1, 5], [5, 1]]]
    values = np.random.default_rng(6).normal(size=(3, 2, 2, DIM))
    oracle = NumpyAdam(start_table(), lambda step: RATE)
    for rows, value in zip(rows_of_steps, values, strict=True):
        touched, values_of_rows = np.ravel(rows).tolist(), value.reshape(4, DIM)
        if optimizer == "RowSparseAdam":
            oracle.apply_sparse((touched, values_of_rows))
        else:
            dense = np.zeros((ROWS, DIM))
            np.add.at(dense, touched, values_of_rows)
            oracle.apply(dense, list(range(ROWS)))
    given = {
        "optimizer": optimizer,
        "start": start_table().tolist(),
        "rate": RATE,
        "steps": list(zip(rows_of_steps, values.tolist(), strict=True)),
    }
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] == 3
    assert len(result["tables"]) == 2
    # Keras' Adam, and so the fused one, adds epsilon before it corrects the bias.
    tolerance = 1e-10 if optimizer == "RowSparseAdam" else 1e-4
    for table in result["tables"]:
        np.testing.assert_allclose(table, oracle.table, rtol=tolerance)

"""Batches that a user of Keras makes: of ids alone, or of what a step cannot read."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF, build_model
from autosample_tf.models.mf import Tables
from autosample_tf.ops.randomness import Draws
from autosample_tf.step.examples import check_batches, check_parts, completed

ROWS, STEPS = 8, 6


@pytest.fixture
def train() -> Interactions:
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, (20, 30), (120, 2)), axis=0)[: ROWS * STEPS]
    return Interactions.from_pairs(pairs[:, 0], pairs[:, 1], num_users=20, num_items=30)


def ids_of(train: Interactions) -> dict[str, np.ndarray]:
    return {"user": train.users.astype(np.int64), "positive": train.items.astype(np.int64)}


def trained_on(dataset: tf.data.Dataset, train: Interactions, steps: int = 1) -> np.ndarray:
    """The users' table after two epochs."""
    model = build_model("mf", train, dim=4, seed=0)
    trainer = AutoSample(model, train, samplers=["rns", "dns:pool=4"], objective="uniform", seed=3)
    trainer.compile(tf.keras.optimizers.Adam(0.01), steps_per_execution=steps)
    trainer.fit(dataset, epochs=2, steps_per_epoch=STEPS, verbose=0)
    return model.trainable_variables[0].numpy()


def with_all(train: Interactions) -> tf.data.Dataset:
    """Batches of users and positives with the weights and places that a step takes."""

    def complete(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            "user": tf.cast(batch["user"], tf.int32),
            "positive": tf.cast(batch["positive"], tf.int32),
            "weight": tf.ones([ROWS]),
            "position": step * ROWS + tf.range(ROWS, dtype=tf.int64),
        }

    return of_ids(train).repeat().enumerate().map(complete)


def of_ids(train: Interactions) -> tf.data.Dataset:
    slices = tf.data.Dataset.from_tensor_slices(ids_of(train))
    return slices.batch(ROWS, drop_remainder=True)


class TestIdsAlone:
    @pytest.mark.parametrize("steps", [1, 3])
    def test_train_as_whole_batches_do(self, train: Interactions, steps: int) -> None:
        alone = trained_on(of_ids(train).repeat(), train, steps)
        np.testing.assert_allclose(alone, trained_on(with_all(train), train, steps), rtol=1e-6)

    def test_every_step_draws_anew(self, train: Interactions) -> None:
        batch = {name: tf.constant(ids[:ROWS]) for name, ids in ids_of(train).items()}
        model = build_model("mf", train, dim=4, seed=0)
        trainer = AutoSample(model, train, samplers=["rns"], objective="uniform", seed=3)
        drawn = [
            trainer.sample(completed(batch, tf.constant(step, tf.int64))).negatives[0].items
            for step in (0, 0, 1)
        ]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert np.any(drawn[0] != drawn[2])

    def test_what_else_a_batch_has_stays(self, train: Interactions) -> None:
        batch = {
            "user": tf.constant([1, 2]),
            "positive": tf.constant([3, 4]),
            "weight": tf.constant([0.5, 1.5]),
            "position": tf.constant([6, 7], tf.int64),
            "rows": tf.constant([8, 9]),
        }
        found = completed(batch, tf.constant(5, tf.int64))
        assert {name: values.numpy().tolist() for name, values in found.items()} == {
            name: values.numpy().tolist() for name, values in batch.items()
        }

    def test_weights_may_be_of_any_numbers(self, train: Interactions) -> None:
        def weighted(dtype: str) -> np.ndarray:
            weights = {"weight": (np.arange(ROWS * STEPS) % 3).astype(dtype)}
            slices = tf.data.Dataset.from_tensor_slices({**ids_of(train), **weights})
            return trained_on(slices.batch(ROWS, drop_remainder=True).repeat(), train)

        np.testing.assert_array_equal(weighted("int64"), weighted("float32"))
        assert np.any(weighted("int64") != trained_on(of_ids(train).repeat(), train))

    def test_a_loss_is_had_without_an_optimizer(self, train: Interactions) -> None:
        trainer = AutoSample(
            build_model("mf", train, dim=4, seed=0), train, samplers=["rns"], objective="uniform"
        )
        batch = next(iter(of_ids(train)))
        assert np.isfinite(trainer.compute_loss(batch).numpy())


def spec(shape: list[int | None] | tuple[int, ...], dtype: tf.DType = tf.int32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


IDS = {"user": spec([8]), "positive": spec([8])}


def test_what_else_a_batch_has_is_let_be() -> None:
    check_batches({**IDS, "genre": spec([8, 3], tf.string), "weight": spec([8], tf.float64)})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((spec([8]), spec([8])), r"dictionaries of tensors"),
        ({"user": spec([8]), "item": spec([8])}, r"'positive' in a batch; received item, user"),
        (
            {"user": spec([8], tf.string), "positive": spec([8])},
            r"numbers of users .* received string",
        ),
        ({"user": spec([None]), "positive": spec([None])}, r"batches of one size.*drop_remainder"),
        ({"user": spec([]), "positive": spec([])}, r"batches of one size"),
        ({"user": spec([8]), "positive": spec([8, 1])}, r"each positive; received shape \(8, 1\)"),
        ({**IDS, "weight": spec([8, 1])}, r"each weight; received shape \(8, 1\)"),
        ({**IDS, "weight": spec([8], tf.string)}, r"numbers as weights .* received string"),
        ({**IDS, "position": spec([8], tf.int64)}, r"beside `weight`; .*call it otherwise"),
        ({**IDS, "weight": spec([8]), "position": spec([8])}, r"`position` .* received int32"),
    ],
)
def test_what_a_step_cannot_read_is_refused(given: object, told: str) -> None:
    with pytest.raises(InputError, match=f"(?s){told}"):
        check_batches(given)


def test_fit_refuses_it_before_a_step_is_traced(train: Interactions) -> None:
    ragged = tf.data.Dataset.from_tensor_slices(ids_of(train)).batch(ROWS)
    with pytest.raises(InputError, match=r"batches of one size"):
        trained_on(ragged, train)


class Penalized(MF):
    """Hands its tables on through a layer that adds their squares to the loss."""

    def __init__(self, *sizes: int):
        super().__init__(*sizes, dim=4, init_scale=0.5)
        self.passing = tf.keras.layers.Activation(
            "linear", activity_regularizer=tf.keras.regularizers.L2(0.3)
        )

    def propagate(self, draws: Draws | None = None) -> Tables:
        tables = super().propagate(draws)
        return Tables(*(self.passing(tf.convert_to_tensor(table)) for table in tables))


@pytest.mark.parametrize("jit", [False, True])
def test_what_a_propagation_adds_is_descended_on(train: Interactions, jit: bool) -> None:
    model = Penalized(train.num_users, train.num_items)
    trainer = AutoSample(model, train, samplers=["rns"], objective="uniform", seed=3)
    trainer.compile(tf.keras.optimizers.SGD(1.0), jit_compile=jit)
    batch = next(iter(of_ids(train)))
    with tf.GradientTape() as tape:
        loss = trainer.compute_loss(batch, training=True)
    expected = [
        before - tf.convert_to_tensor(slope)
        for before, slope in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        )
    ]
    trainer.fit(of_ids(train).take(1), verbose=0)
    for after, wanted in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(after, wanted, rtol=1e-4, atol=1e-6)


def test_batches_that_replicas_cannot_share_equally_are_refused() -> None:
    given = {**IDS, "genre": spec([8, 3], tf.string), "scale": spec([])}
    for replicas in (1, 2, 4):
        check_parts(given, replicas)
    with pytest.raises(InputError, match="a batch size that 3 replicas divide; received 8"):
        check_parts(given, 3)

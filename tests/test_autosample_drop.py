"""Dropping samplers while training, and going on from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from test_autosample_logits import Spy
from worlds import toy_held_out, toy_model, toy_train

from autosample_tf.autosample import AutoSample
from autosample_tf.callbacks import DropSamplers, EvaluateEpoch, ReportHealth
from autosample_tf.errors import InputError
from autosample_tf.evaluation import Evaluator
from autosample_tf.pipeline import training_batches
from autosample_tf.samplers.contract import Context, Negatives
from autosample_tf.samplers.uniform import RNS
from autosample_tf.step import heldout as heldout_module


class Counting(RNS):
    """`rns` that counts in Python, hence once a trace."""

    card = None

    def __init__(self) -> None:
        super().__init__()
        self.traces = 0

    def sample(self, context: Context) -> Negatives:
        self.traces += 1
        return super().sample(context)


def build(*samplers: Any, objective: str = "validation", **settings: Any) -> AutoSample:
    autosample = AutoSample(
        toy_model("mf"),
        toy_train(),
        samplers=samplers,
        objective=objective,
        validation=toy_held_out(),
        temperature=1.0,
        logits_optimizer=tf.keras.optimizers.Adam(0.1, jit_compile=False),
        **settings,
    )
    autosample.compile(tf.keras.optimizers.SGD(0.1, jit_compile=False))
    return autosample


def fit(autosample: AutoSample, **settings: Any) -> dict[str, list[float]]:
    batches = training_batches(toy_train(), 8, seed=0)
    return autosample.fit(batches, steps_per_epoch=2, verbose=0, **settings).history


def test_a_step_is_traced_once_for_all_epochs() -> None:
    counting = Counting()
    autosample = build(counting, "dns:pool=6")
    fit(autosample, epochs=3)
    traced = counting.traces
    fit(autosample, epochs=2)
    assert counting.traces == traced


def test_a_checkpoint_of_the_same_samplers_is_gone_on_with_as_it_was_traced(
    tmp_path: Path,
) -> None:
    counting = Counting()
    autosample = build(counting, "dns:pool=6")
    fit(autosample)
    path = tf.train.Checkpoint(autosample=autosample).write(str(tmp_path / "checkpoint"))
    traced = counting.traces
    tf.train.Checkpoint(autosample=autosample).read(path).expect_partial()
    autosample.restore_active()
    fit(autosample)
    assert counting.traces == traced


def test_after_a_drop_the_step_is_traced_without_the_sampler() -> None:
    counting = Counting()
    autosample = build(counting, "dns:pool=6", "pns")
    fit(autosample)
    traced = counting.traces
    assert traced > 0
    autosample.drop([counting.spec])
    history = fit(autosample)
    assert counting.traces == traced
    assert f"weight/{counting.spec}" not in history
    assert "weight/dns:pool=6" in history


def test_a_drop_before_the_first_step_is_heeded() -> None:
    counting = Counting()
    autosample = build(counting, "dns:pool=6")
    autosample.drop([counting.spec])
    fit(autosample)
    assert counting.traces == 0


def test_a_drop_within_fit_counts_from_the_next_epoch() -> None:
    first, second = Counting(), "dns:pool=6"
    autosample = build(first, second)

    class DropAfterFirst(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append((f"weight/{first.spec}" in logs, first.traces))
            if epoch == 0:
                self.model.drop([first.spec])

    seen: list[tuple[bool, int]] = []
    fit(autosample, epochs=3, callbacks=[DropAfterFirst()])
    traced = seen[0][1]
    assert seen == [(True, traced), (False, traced), (False, traced)]


def test_the_survivors_share_the_weights_of_the_dropped() -> None:
    autosample = build("rns", "dns:pool=6", "mixgcf:pool=6")
    autosample.logits.assign(np.log([0.5, 0.3, 0.2]))
    autosample.drop(["rns"])
    assert autosample.survivors == ["dns:pool=6", "mixgcf:pool=6"]
    expected = {"dns:pool=6": 0.6, "mixgcf:pool=6": 0.4}
    assert autosample.weights_by_spec() == pytest.approx(expected, abs=1e-6)


def test_the_last_sampler_cannot_be_dropped() -> None:
    autosample = build("rns", "dns:pool=6")
    with pytest.raises(InputError, match="Keep one"):
        autosample.drop(["rns", "dns:pool=6"])
    assert autosample.survivors == ["rns", "dns:pool=6"]
    autosample.drop(["rns"])
    with pytest.raises(InputError, match="Keep one"):
        autosample.drop(["dns:pool=6"])
    assert autosample.survivors == ["dns:pool=6"]


def test_with_one_survivor_no_signal_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    monkeypatch.setattr(heldout_module, "alignment", spy)
    autosample = build("rns", "dns:pool=6")
    fit(autosample)
    calls, logits = spy.calls, autosample.logits.numpy()
    assert calls > 0
    autosample.drop(["rns"])
    fit(autosample)
    assert spy.calls == calls
    np.testing.assert_array_equal(autosample.logits.numpy(), logits)
    assert autosample.weights_by_spec() == {"dns:pool=6": 1.0}


@pytest.mark.parametrize("objective", ["joint", "validation"])
def test_a_drop_leaves_a_checkpoints_shapes_unchanged(objective: str, tmp_path: Path) -> None:
    autosample = build("rns", "dns:pool=6", "pns", objective=objective)
    fit(autosample)
    shapes = []
    for name in ("before", "after"):
        path = tf.train.Checkpoint(autosample=autosample).write(str(tmp_path / name))
        shapes.append(tf.train.list_variables(path))
        autosample.drop(["pns:alpha=0.75"])
        fit(autosample)
    assert shapes[0] == shapes[1]
    assert any("logits" in name and shape == [3] for name, shape in shapes[0])


def test_a_restored_search_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    samplers = ("rns", "dns:pool=6", "pns")
    whole = build(*samplers)
    fit(whole)
    whole.drop(["dns:pool=6"])
    path = tf.train.Checkpoint(autosample=whole).write(str(tmp_path / "checkpoint"))
    resumed = build(*samplers)
    tf.train.Checkpoint(autosample=resumed).read(path).assert_existing_objects_matched()
    resumed.restore_active()
    assert resumed.survivors == whole.survivors == ["rns", "pns:alpha=0.75"]
    histories = [fit(autosample) for autosample in (whole, resumed)]
    assert histories[0].keys() == histories[1].keys()
    assert resumed.weights_by_spec() == whole.weights_by_spec()
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        if "user" in one.name or "item" in one.name or "logits" in one.name:
            np.testing.assert_array_equal(one.numpy(), other.numpy())


STATEFUL = ["aobpr:mean_rank=5.0", "dens:pool=6", "nscaching:cache=4,random=6",
            "srns:memory=4,random=6", "adasir:pool=6,resample=4,n=3", "kbgan:pool=6,dim=3",
            "irgan:dim=3"]  # fmt: skip


@pytest.mark.parametrize("spec", STATEFUL)
def test_a_checkpoint_brings_back_what_a_sampler_has_learned(spec: str, tmp_path: Path) -> None:
    whole = build(spec, "rns", objective="uniform")
    begun = [variable.numpy() for variable in whole.samplers[0].variables]
    fit(whole)
    learned = [variable.numpy() for variable in whole.samplers[0].variables]
    assert any((now != then).any() for now, then in zip(learned, begun, strict=True))
    path = tf.train.Checkpoint(autosample=whole).write(str(tmp_path / "checkpoint"))
    resumed = build(spec, "rns", objective="uniform")
    tf.train.Checkpoint(autosample=resumed).read(path).assert_existing_objects_matched()
    for variable, value in zip(resumed.samplers[0].variables, learned, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for autosample in (whole, resumed):
        fit(autosample)
    for one, other in zip(
        [*whole.model.variables, *whole.samplers[0].variables],
        [*resumed.model.variables, *resumed.samplers[0].variables],
        strict=True,
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.name)


def test_restoring_after_a_step_retraces_it(tmp_path: Path) -> None:
    counting = Counting()
    dropped = build(counting, "dns:pool=6")
    dropped.drop([counting.spec])
    path = tf.train.Checkpoint(autosample=dropped).write(str(tmp_path / "checkpoint"))
    fresh = Counting()
    autosample = build(fresh, "dns:pool=6")
    fit(autosample)
    traced = fresh.traces
    tf.train.Checkpoint(autosample=autosample).read(path).expect_partial()
    autosample.restore_active()
    fit(autosample)
    assert fresh.traces == traced
    assert autosample.survivors == ["dns:pool=6"]


def test_keras_own_callbacks_take_the_logs_of_an_epoch_that_drops(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its progress bar, which averages numbers, and its board."""
    autosample = build("rns", "pns", objective="uniform")
    autosample.assign_weights(np.array([0.9, 0.1]))
    board = tf.keras.callbacks.TensorBoard(tmp_path)
    history = autosample.fit(
        training_batches(toy_train(), 4, seed=0), steps_per_epoch=3, epochs=3, verbose=2,
        callbacks=[DropSamplers(0.5, 0), board],
    ).history  # fmt: skip
    assert list(autosample.survivors) == ["rns"]
    assert history["dropped/pns:alpha=0.75"] == [pytest.approx(0.1)]
    assert "dropped/pns:alpha=0.75: 0.1000" in capsys.readouterr().out


def test_keras_own_callbacks_take_the_logs_of_an_epoch_that_is_evaluated(tmp_path: Path) -> None:
    """A checkpoint's name and a table's column are the epoch's; validation leaves its health."""
    autosample = build("rns", "pns", objective="uniform", health_every=1)
    evaluator = Evaluator(autosample.model, toy_held_out(), toy_train(), [3])
    batches = training_batches(toy_train(), 4, seed=0)
    kept = tf.keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.h5"), monitor="ndcg@3", mode="max", save_weights_only=True
    )
    table = tf.keras.callbacks.CSVLogger(str(tmp_path / "table.csv"))
    history = autosample.fit(
        batches, steps_per_epoch=3, epochs=2, verbose=0, validation_data=batches,
        validation_steps=1,
        callbacks=[ReportHealth(), EvaluateEpoch(evaluator), kept, table],
    ).history  # fmt: skip
    assert {path.name for path in tmp_path.glob("*.h5")} == {"1.h5", "2.h5"}
    head = (tmp_path / "table.csv").read_text().splitlines()[0].split(",")
    assert head.count("epoch") == 1
    assert len(history["masked/rns"]) == len(history["val_loss"]) == 2


@pytest.mark.parametrize("way", ["load_weights", "set_weights", "fit"])
def test_restored_weights_bring_the_samplers_that_were_active(way: str, tmp_path: Path) -> None:
    dropped, restored = (build("rns", "pns", objective="uniform") for _ in range(2))
    fit(dropped)
    dropped.drop(["rns"])
    fit(restored)
    restored.evaluate(training_batches(toy_train(), 8, seed=0), steps=2, verbose=0)
    if way == "load_weights":
        dropped.save_weights(str(tmp_path / "weights.h5"))
        restored.load_weights(str(tmp_path / "weights.h5"))
    elif way == "set_weights":
        restored.set_weights(dropped.get_weights())
    else:
        path = tf.train.Checkpoint(dropped).write(str(tmp_path / "checkpoint"))

        class Restore(tf.keras.callbacks.Callback):
            def on_train_begin(self, logs: Any = None) -> None:
                tf.train.Checkpoint(self.model).read(path)

        fit(restored, callbacks=[Restore()])
    assert restored.survivors == dropped.survivors == ["pns:alpha=0.75"]
    batches = training_batches(toy_train(), 8, seed=0)
    losses = [one.evaluate(batches, steps=2, verbose=0) for one in (restored, dropped)]
    assert losses[0] == pytest.approx(losses[1]) or way == "fit"
    assert restored.weights_by_spec() == {"pns:alpha=0.75": pytest.approx(1.0)}

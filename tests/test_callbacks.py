"""What happens between epochs, callback by callback, on models that are not trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import LEAST, parameters

import autosample_tf
from autosample_tf.callbacks import (
    BackUp,
    DropSamplers,
    EvaluateEpoch,
    KeepBest,
    KeepEpoch,
    Record,
    StopOnDivergence,
    TrainingDivergedError,
    rates,
)
from autosample_tf.checkpoints import read_parameters, write_parameters
from autosample_tf.errors import InputError
from autosample_tf.models import MF
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.runs import History, dropped_of
from autosample_tf.samplers.uniform import RNS

Weights = dict[str, float]


# --- DropSamplers


class Mixture:
    """Stands for AutoSample: weights that are set, samplers that are dropped."""

    def __init__(self, **weights: float):
        self.weights = weights
        self.stop_training = False

    def weights_by_spec(self) -> Weights:
        return dict(self.weights)

    def drop(self, specs: set[str]) -> None:
        """As AutoSample does, the others share the weights of the dropped."""
        left = {spec: w for spec, w in self.weights.items() if spec not in specs}
        assert left
        self.weights = {spec: w / sum(left.values()) for spec, w in left.items()}


def told(logs: dict[str, float]) -> str | None:
    """Who was dropped, with its weight; None: nobody."""
    return ";".join(f"{spec}={weight:.6f}" for spec, weight in dropped_of(logs).items()) or None


def weights_of(
    *epochs: Weights,
    threshold: float = 0.5,
    warmup: int = 0,
    steps_to_trace: int = 0,
    last_epoch: int = 9,
    stops_in: int | None = None,
) -> list[str | None]:
    """What is logged as dropped after each of these epochs, with these weights at its end; an
    epoch has 10 steps."""
    callback, dropped = DropSamplers(threshold, warmup, steps_to_trace), []
    callback.set_params({"epochs": last_epoch})
    for epoch, weights in enumerate(epochs):
        mixture = Mixture(**weights)
        mixture.stop_training = epoch + 1 == stops_in
        callback.set_model(mixture)
        callback.on_train_batch_end(4, {})
        callback.on_train_batch_end(9, {})
        logs: dict[str, Any] = {}
        callback.on_epoch_end(epoch, logs)
        dropped.append(told(logs))
        gone = set(weights) - set(mixture.weights)
        assert {entry.partition("=")[0] for entry in (dropped[-1] or "").split(";")} - {""} == gone
    return dropped


# Of 4 samplers the equal weight is .25; at half of it, .125, the threshold.
LOW = {"a": 0.12, "b": 0.28, "c": 0.3, "d": 0.3}
HIGH = {"a": 0.13, "b": 0.27, "c": 0.3, "d": 0.3}


def test_a_sampler_goes_after_two_epochs_in_a_row_under_the_threshold() -> None:
    assert weights_of(LOW, LOW) == [None, "a=0.120000"]
    assert weights_of(LOW, HIGH, LOW, LOW) == [None, None, None, "a=0.120000"]
    assert weights_of(HIGH, HIGH, HIGH) == [None, None, None]


def test_a_weight_at_the_threshold_stays() -> None:
    at = {"a": 0.125, "b": 0.275, "c": 0.3, "d": 0.3}
    assert weights_of(at, at, at) == [None, None, None]


def test_none_goes_in_the_warm_up_whose_last_epoch_counts_as_the_first_of_two() -> None:
    assert weights_of(LOW, LOW, LOW, LOW, warmup=3) == [None, None, None, "a=0.120000"]
    assert weights_of(HIGH, HIGH, LOW, LOW, warmup=3) == [None, None, None, "a=0.120000"]
    assert weights_of(LOW, LOW, HIGH, LOW, LOW, warmup=3)[3:] == [None, "a=0.120000"]


def test_the_threshold_is_relative_to_the_samplers_that_are_left() -> None:
    """.17 is over half of 1/4 but under half of 1/2."""
    four = {"a": 0.17, "b": 0.23, "c": 0.3, "d": 0.3}
    two = {"a": 0.17, "d": 0.83}
    assert weights_of(four, four) == [None, None]
    assert weights_of(two, two) == [None, "a=0.170000"]
    assert weights_of(four, two, two) == [None, None, "a=0.170000"]


def test_several_go_at_once_and_are_told_in_order_with_their_weights() -> None:
    both = {"z": 0.05, "m": 0.5, "a": 0.1, "d": 0.35}
    assert weights_of(both, both) == [None, "a=0.100000;z=0.050000"]


def test_the_strongest_stays_whatever_the_threshold() -> None:
    """Equal weights are all at 1/n, hence under .999/n never; nearly equal ones are."""
    nearly = {"a": 0.3333, "b": 0.3333, "c": 0.3334}
    assert weights_of(nearly, nearly, threshold=1.0) == [None, "a=0.333300;b=0.333300"]
    assert weights_of({"a": 1.0}, {"a": 1.0}, threshold=0.999) == [None, None]


def test_a_threshold_of_0_drops_none() -> None:
    none = {"a": 0.0, "b": 1.0}
    assert weights_of(none, none, none, threshold=0.0) == [None, None, None]


def test_another_sampler_has_to_be_low_twice_itself() -> None:
    other = {"a": 0.28, "b": 0.12, "c": 0.3, "d": 0.3}
    assert weights_of(LOW, other, LOW) == [None, None, None]


# Two of four, and 10 steps an epoch: half of what is left.
TWO_LOW = {"a": 0.05, "b": 0.05, "c": 0.4, "d": 0.5}
BOTH = "a=0.050000;b=0.050000"


def test_the_dropped_wait_for_each_other_until_tracing_is_worth_it() -> None:
    """Of 9 epochs 7 are left after the second, 6 after the third."""
    assert weights_of(TWO_LOW, TWO_LOW, steps_to_trace=35) == [None, BOTH]
    assert weights_of(TWO_LOW, TWO_LOW, steps_to_trace=36) == [None, None]
    assert weights_of(LOW, LOW, TWO_LOW, TWO_LOW, steps_to_trace=25) == [None, None, None, BOTH]


def test_after_the_last_epoch_there_is_no_step_to_trace() -> None:
    assert weights_of(LOW, LOW, LOW, last_epoch=3, steps_to_trace=99)[1:] == [None, "a=0.120000"]
    assert weights_of(LOW, LOW, LOW, stops_in=3, steps_to_trace=99)[1:] == [None, "a=0.120000"]


@pytest.mark.parametrize(("before", "dropped"), [(LOW, "a=0.120000"), (HIGH, None)])
def test_a_resumed_run_knows_who_was_low_before(before: Weights, dropped: str | None) -> None:
    callback, logs = DropSamplers(0.5, 0), {}
    callback.set_params({"epochs": 9})
    rows = [
        {"epoch": n + 1, "loss": 1.0, **{f"weight/{k}": v for k, v in weights.items()}}
        for n, weights in enumerate([LOW, HIGH, LOW, before])
    ]
    assert not callback.replay(rows)
    callback.set_model(Mixture(**LOW))
    callback.on_epoch_end(4, logs)
    assert told(logs) == dropped


def test_a_resumed_run_counts_only_the_samplers_that_were_left() -> None:
    """A dropped one's column is empty from then on: .17 is low among 2, not among 4."""
    callback, logs = DropSamplers(0.5, 0), {}
    callback.set_params({"epochs": 9})
    row = {"epoch": 3, "weight/a": 0.17, "weight/b": None, "weight/c": None, "weight/d": 0.83}
    callback.replay([row])
    callback.set_model(Mixture(a=0.17, d=0.83))
    callback.on_epoch_end(3, logs)
    assert told(logs) == "a=0.170000"


# --- KeepBest


RATE = 0.25


class Host:
    """Stands for AutoSample where its samplers are not asked for."""

    def __init__(self, value: float = 0.0):
        self.model = MF(2, 3, dim=2)
        self.optimizer = RowSparseAdam(RATE)
        self.optimizer.build(self.model.trainable_variables)
        self.stop_training = False
        self.rows: list[dict[str, Any]] = []
        self.set(value)

    def set(self, value: float) -> None:
        for variable in self.model.trainable_variables:
            variable.assign(tf.fill(variable.shape, value))


def kept(path: Path) -> float:
    """The value that `Host.set` gave all parameters."""
    (value,) = {float(x) for table in parameters(path).values() for x in np.ravel(table)}
    return value


def keep_best(
    path: Path,
    *metrics: float,
    patience: int = 2,
    last_epoch: int = 60,
    start: float | None = None,
    decays: int = 0,
) -> Any:
    """After epochs 1, 2, … with these metrics, the parameters, and the optimizer's steps, being
    the epoch's number."""
    callback, host = KeepBest("ndcg@5", patience, path, last_epoch, decays=decays), Host()
    callback.set_model(host)
    if start is not None:
        callback.start_from(start, host.model, host.optimizer)
    for epoch, value in enumerate(metrics):
        assert not host.stop_training
        host.set(epoch + 1.0)
        host.optimizer.iterations.assign(epoch + 1)
        logs = {"ndcg@5": value, "ndcg@10": 1 - value}
        callback.on_epoch_end(epoch, logs)
        host.rows.append({"epoch": epoch + 1, **logs})
    return callback, host


def test_the_best_epochs_parameters_are_kept(tmp_path: Path) -> None:
    callback, host = keep_best(tmp_path / "p", 0.1, 0.3, 0.2)
    assert (callback.best, callback.best_epoch, host.stop_training) == (0.3, 2, False)
    assert kept(tmp_path / "p") == 2.0


def test_of_equal_epochs_the_first_is_the_best(tmp_path: Path) -> None:
    callback, _ = keep_best(tmp_path / "p", 0.3, 0.3)
    assert callback.best_epoch == 1
    assert kept(tmp_path / "p") == 1.0


def test_it_stops_after_patience_epochs_in_a_row_without_a_best(tmp_path: Path) -> None:
    assert keep_best(tmp_path / "p", 0.3, 0.2, 0.1)[1].stop_training
    assert not keep_best(tmp_path / "p", 0.3, 0.2, 0.4, 0.1)[1].stop_training
    assert keep_best(tmp_path / "p", 0.3, 0.2, 0.4, 0.1, 0.4)[1].stop_training


def test_the_parameters_before_the_first_epoch_count_as_epoch_0(tmp_path: Path) -> None:
    """But patience is with the epochs: shrunk parameters take some to be as good again."""
    callback, host = keep_best(tmp_path / "p", 0.1, 0.2, 0.3, 0.2, 0.3, start=0.3)
    assert (callback.best_epoch, host.stop_training) == (0, True)
    assert kept(tmp_path / "p") == 0.0
    assert keep_best(tmp_path / "q", 0.31, start=0.3)[0].best_epoch == 1
    assert kept(tmp_path / "q") == 1.0


def test_starting_again_does_not_overwrite_a_later_epochs_parameters(tmp_path: Path) -> None:
    keep_best(tmp_path / "p", 0.2, 0.5, start=0.1)
    resumed, host = KeepBest("ndcg@5", 2, tmp_path / "p", 60), Host(9.0)
    resumed.start_from(0.1, host.model, host.optimizer)
    assert kept(tmp_path / "p") == 2.0


def stands_at(host: Host) -> tuple[float, int]:
    """The epoch of a host's parameters, and of its optimizer's state."""
    (value,) = {float(x) for v in host.model.trainable_variables for x in np.ravel(v)}
    return value, int(host.optimizer.iterations)


def test_instead_of_stopping_it_goes_back_to_the_best_at_a_fifth_of_the_rate(
    tmp_path: Path,
) -> None:
    callback, host = keep_best(tmp_path / "p", 0.1, 0.3, 0.2, 0.1, decays=1)
    assert not host.stop_training
    assert stands_at(host) == (2.0, 2)
    assert float(host.optimizer.learning_rate) == pytest.approx(RATE / 5)
    assert (callback.best_epoch, callback.epochs_by_rate) == (2, [2, 0])


def test_from_there_it_has_as_much_patience_and_keeps_what_is_better(tmp_path: Path) -> None:
    before = (0.1, 0.3, 0.2, 0.1)
    assert not keep_best(tmp_path / "p", *before, 0.2, decays=1)[1].stop_training
    assert keep_best(tmp_path / "q", *before, 0.2, 0.3, decays=1)[1].stop_training
    callback, host = keep_best(tmp_path / "r", *before, 0.2, 0.4, 0.4, decays=1)
    assert (callback.best_epoch, callback.epochs_by_rate) == (6, [2, 2])
    assert (kept(tmp_path / "r"), host.stop_training) == (6.0, False)


def test_the_rate_decays_as_often_as_is_asked(tmp_path: Path) -> None:
    callback, host = keep_best(tmp_path / "p", 0.3, *[0.1] * 4, decays=2)
    assert float(host.optimizer.learning_rate) == pytest.approx(RATE / 25)
    assert (callback.epochs_by_rate, host.stop_training) == ([1, 0, 0], False)
    assert keep_best(tmp_path / "q", 0.3, *[0.1] * 6, decays=2)[1].stop_training


def test_what_rises_to_the_end_has_a_sixth_of_its_epochs_at_each_lowered_rate(
    tmp_path: Path,
) -> None:
    rising = [0.01 * epoch for epoch in range(1, 13)]
    for decays, by_rate in ((0, [12]), (1, [10, 2]), (2, [8, 2, 2]), (6, [6, *[1] * 6])):
        callback, host = keep_best(tmp_path / str(decays), *rising, last_epoch=12, decays=decays)
        assert callback.epochs_by_rate == by_rate
        assert float(host.optimizer.learning_rate) == pytest.approx(RATE / 5**decays)


def test_what_has_lowered_its_rate_already_does_not_again(tmp_path: Path) -> None:
    metrics = (0.1, 0.3, 0.2, 0.1, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.91, 0.92)
    callback, _ = keep_best(tmp_path / "p", *metrics, last_epoch=12, decays=1)
    assert callback.epochs_by_rate == [2, 8]


def test_what_falls_late_goes_back_to_its_best(tmp_path: Path) -> None:
    metrics = (*[0.01 * n for n in range(1, 10)], 0.085)
    callback, host = keep_best(tmp_path / "p", *metrics, last_epoch=12, decays=1)
    assert (callback.best_epoch, callback.epochs_by_rate) == (9, [9, 0])
    assert stands_at(host) == (9.0, 9)


def test_what_is_below_its_start_late_goes_on(tmp_path: Path) -> None:
    """Shrunk parameters, say, in few epochs: to go back would be to undo all of them."""
    rising = [0.1 + 0.01 * n for n in range(11)]
    callback, host = keep_best(tmp_path / "p", *rising, last_epoch=12, start=0.3, decays=1)
    assert (callback.epochs_by_rate, stands_at(host)) == ([0], (11.0, 11))
    callback, _ = keep_best(tmp_path / "q", *rising, last_epoch=12, start=0.195, decays=1)
    assert callback.epochs_by_rate == [11, 0]


def test_of_few_epochs_none_is_at_a_lowered_rate(tmp_path: Path) -> None:
    callback, _ = keep_best(tmp_path / "p", *[0.1 * n for n in range(5)], last_epoch=5, decays=1)
    assert callback.epochs_by_rate == [5]


def test_where_no_epoch_was_better_it_goes_back_to_before_the_first(tmp_path: Path) -> None:
    callback, host = keep_best(tmp_path / "p", 0.2, 0.2, 0.1, start=0.3, decays=1)
    assert stands_at(host) == (0.0, 0)
    assert (callback.best_epoch, callback.epochs_by_rate) == (0, [0, 0])
    assert keep_best(tmp_path / "q", 0.2, 0.2, 0.1, 0.2, 0.3, start=0.3, decays=1)[1].stop_training


def test_the_logs_have_an_epochs_rate_and_where_it_went_back_to(tmp_path: Path) -> None:
    callback, host = KeepBest("ndcg@5", 1, tmp_path / "p", 60, decays=1), Host()
    callback.set_model(host)
    for epoch, (metric, rate) in enumerate(((0.3, RATE), (0.2, RATE), (0.4, RATE / 5))):
        logs = {"ndcg@5": metric}
        callback.on_epoch_end(epoch, logs)
        assert logs["lr"] == pytest.approx(rate)
        assert logs.get("back_to") == (1 if epoch == 1 else None)


def test_the_rates_of_the_epochs_that_led_to_the_best() -> None:
    assert rates(0.5, [0]) == rates(0.5, [0, 0]) == []
    np.testing.assert_allclose(rates(0.5, [2, 0, 1]), [0.5, 0.5, 0.02])


@pytest.mark.parametrize("last_epoch", [6, 60])
@pytest.mark.parametrize("decays", range(3))
@pytest.mark.parametrize("epochs", range(6))
def test_replayed_it_stands_where_it_stood(
    epochs: int, decays: int, last_epoch: int, tmp_path: Path
) -> None:
    whole = [0.2, 0.4, 0.4, 0.3, 0.1, 0.5] if decays else [0.2, 0.4, 0.4, 0.5, 0.1, 0.3]
    metrics = whole[:epochs]
    callback, host = keep_best(tmp_path / "p", *metrics, decays=decays, last_epoch=last_epoch)
    replayed = KeepBest("ndcg@5", 2, tmp_path / "p", last_epoch, decays=decays)
    assert replayed.replay(host.rows) == host.stop_training
    assert vars(replayed) == {**vars(callback), "model": None}


def test_replay_says_that_it_had_stopped(tmp_path: Path) -> None:
    rows = [{"epoch": n + 1, "ndcg@5": value} for n, value in enumerate([0.2, 0.1, 0.1])]
    assert KeepBest("ndcg@5", 2, tmp_path / "p", 60).replay(rows)
    assert not KeepBest("ndcg@5", 3, tmp_path / "p", 60).replay(rows)


def test_one_epochs_parameters_are_kept_for_rewinding(tmp_path: Path) -> None:
    callback, host = KeepEpoch(2, tmp_path / "p"), Host()
    callback.set_model(host)
    for epoch in range(3):
        host.set(epoch + 1.0)
        callback.on_epoch_end(epoch)
    assert kept(tmp_path / "p") == 2.0


# --- StopOnDivergence


def diverging() -> tuple[StopOnDivergence, Host]:
    callback, host = StopOnDivergence(), Host(0.5)
    callback.set_model(host)
    return callback, host


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(loss: float) -> None:
    callback, _ = diverging()
    callback.on_train_batch_end(0, {"loss": 0.7})
    with pytest.raises(TrainingDivergedError, match=f"received {loss} at step 4 of the epoch"):
        callback.on_train_batch_end(3, {"loss": loss})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("table", [0, 1])
def test_a_parameter_that_is_not_finite_stops_training_before_it_is_backed_up(
    value: float, table: int
) -> None:
    """1e30 is finite, but a score, its square, is not."""
    callback, host = diverging()
    callback.on_epoch_end(0, {})
    host.model.trainable_variables[table][1, 0].assign(value)
    with pytest.raises(TrainingDivergedError, match="after epoch 1"):
        callback.on_epoch_end(0, {})


# --- EvaluateEpoch and Record


def test_an_epochs_logs_have_its_times_and_the_metrics() -> None:
    class Evaluated:
        def mean(self) -> Weights:
            return {"ndcg@5": 0.25}

    callback, logs = EvaluateEpoch(Evaluated()), {"loss": 0.5}
    callback.on_epoch_begin(6)
    callback.on_epoch_end(6, logs)
    assert (logs["loss"], logs["ndcg@5"]) == (0.5, 0.25)
    assert logs["seconds"] >= 0 <= logs["evaluation_seconds"]


def test_with_nothing_held_out_there_are_no_metrics() -> None:
    callback, logs = EvaluateEpoch(None), {"loss": 0.5}
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0, logs)
    assert set(logs) == {"loss", "seconds", "evaluation_seconds"}


def test_what_is_recorded_is_in_the_history_as_it_was(tmp_path: Path) -> None:
    record = Record(History(tmp_path / "h.csv"), tmp_path / "tensorboard")
    record.on_train_begin()
    record.on_epoch_end(0, {"loss": np.float32(0.1), "dropped/a": 0.1})
    record.on_train_end()
    saved = History(tmp_path / "h.csv")
    saved.load(1)
    assert saved.rows == [{"epoch": 1, "loss": float(np.float32(0.1)), "dropped": "a=0.100000"}]
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


# --- parameters and checkpoints


def test_parameters_read_back_equal(tmp_path: Path) -> None:
    one, other = MF(4, 5, dim=3, seed=1), MF(4, 5, dim=3, seed=2)
    write_parameters(one, tmp_path / "p")
    read_parameters(other, tmp_path / "p")
    for mine, its in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())


def test_parameters_that_are_not_there_or_another_models_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected the parameters of this model"):
        read_parameters(MF(4, 5, dim=3), tmp_path / "none")
    write_parameters(MF(4, 5, dim=3), tmp_path / "p")
    with pytest.raises(InputError, match="Expected the parameters of this model"):
        read_parameters(MF(4, 6, dim=3), tmp_path / "p")


def test_one_checkpoint_is_kept_and_tells_how_many_epochs_are_done(tmp_path: Path) -> None:
    class Trained(tf.Module):
        restored = 0

        def __init__(self, value: float):
            super().__init__()
            self.value = tf.Variable(value)

        def restore_active(self) -> None:
            self.restored += 1

    back_up = BackUp(Trained(1.0), tmp_path)
    assert back_up.restore() == 0
    for epoch in range(3):
        back_up._autosample.value.assign(10.0 + epoch)
        back_up.on_epoch_end(epoch)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint", "ckpt-3.data-00000-of-00001", "ckpt-3.index"]
    assert str(tmp_path) not in (tmp_path / "checkpoint").read_text(encoding="utf-8")
    other = Trained(2.0)
    assert BackUp(other, tmp_path).restore() == 3
    assert (float(other.value), other.restored) == (12.0, 1)


def test_active_samplers_are_refreshed_once_an_epoch(small_data: Path, tmp_path: Path) -> None:
    refreshed: list[RNS] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RNS, "refresh", lambda self: refreshed.append(self))
        autosample_tf.search(str(small_data), LEAST, run_dir=tmp_path / "run")
    assert len(refreshed) == LEAST.search_epochs + LEAST.retrain_epochs


def test_damaged_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    callback, _ = keep_best(tmp_path / "p", 0.1)
    data = tmp_path / "p.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(InputError, match=r"the parameters of this model in .*p; .*copied in part"):
        read_parameters(callback.model.model, tmp_path / "p")
    (tmp_path / "p.index").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"the parameters of this model in .*p; "):
        read_parameters(callback.model.model, tmp_path / "p")

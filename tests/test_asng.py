"""The objective `asng`: its distribution by hand, and what a comparison keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_runs import LEAST, history
from test_autosample import build, sgd
from worlds import toy_train

import autosample_tf
from autosample_tf.autosample import AutoSample
from autosample_tf.errors import InputError
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.runs import Run
from autosample_tf.stages import asng
from autosample_tf.stages.asng import Distribution, LearnByComparing, Search, moved, some_users

BATCH = 8
FLOOR = 0.1


def after(search: Search, outcomes: list[tuple[int, int]]) -> Search:
    for better, worse in outcomes:
        search = moved(search, better, worse, 0.5)
    return search


class TestMoved:
    def test_the_first_step_by_hand(self) -> None:
        """From 1/4 each: the natural gradient is (1/2, -1/2, 0, 0), its Fisher norm sqrt(2)."""
        found = moved(Search.begin(4), 2, 0, 0.01)
        change = 0.2 * 0.5 / np.sqrt(2)
        np.testing.assert_allclose(found.weights, [0.25 - change, 0.25, 0.25 + change, 0.25])

    @pytest.mark.parametrize("caution", [1.0, 3.0])
    def test_a_step_is_as_long_as_fishers_metric_has_it(self, caution: float) -> None:
        weights = np.array([0.4, 0.1, 0.3, 0.2])
        found = moved(Search.begin(4)._replace(weights=weights, caution=caution), 0, 3, 0.01)
        change = found.weights - weights
        assert np.sqrt(np.sum(change**2 / weights)) == pytest.approx(0.2 / caution)
        assert change.sum() == pytest.approx(0)

    def test_what_is_nearly_a_tie_moves_the_weights_by_as_much_less(self) -> None:
        """The usual margin is the mean of those so far, this one's among them."""
        search = Search.begin(4)._replace(margin=0.3, compared=9.0)
        full, half = moved(search, 0, 3, 0.3), moved(search, 0, 3, 0.1)
        usual = 0.3 - 0.2 / 10
        assert (half.margin, half.compared) == (pytest.approx(usual), 10)
        change = half.weights - search.weights
        np.testing.assert_allclose(
            change, 0.1 / usual * (full.weights - search.weights), atol=1e-12
        )

    def test_no_margin_moves_the_weights_by_more_than_the_usual_one(self) -> None:
        search = Search.begin(4)._replace(margin=0.3, compared=9.0)
        full, wide = moved(search, 0, 3, 0.3), moved(search, 0, 3, 3.0)
        np.testing.assert_array_equal(wide.weights, full.weights)

    def test_the_usual_margin_is_of_the_last_comparisons(self) -> None:
        search = after(Search.begin(4), [(0, 1)] * 300)
        assert (search.margin, search.compared) == (0.5, 64)
        assert moved(search, 0, 1, 0.1).margin == pytest.approx(0.5 - 0.4 / 64)

    def test_weights_stay_a_distribution_above_the_floor(self) -> None:
        rng = np.random.default_rng(0)
        search = Search.begin(5)
        for _ in range(300):
            search = moved(search, *rng.choice(5, 2, replace=False), rng.random())
            assert search.weights.sum() == pytest.approx(1)
            assert search.weights.min() >= FLOOR / 5 - 1e-12

    def test_who_always_wins_comes_to_have_all_but_the_floor(self) -> None:
        found = after(Search.begin(4), [(1, 0), (1, 2), (1, 3)] * 30)
        np.testing.assert_allclose(found.weights[1], 1 - 0.75 * FLOOR)

    def test_the_mean_follows_by_a_thirty_second(self) -> None:
        found = moved(Search.begin(3), 0, 1, 0.01)
        expected = 1 / 3 + (found.weights - 1 / 3) / 32
        np.testing.assert_allclose(found.mean, expected)

    def test_steps_that_agree_stay_long_and_noise_shortens_them(self) -> None:
        rng = np.random.default_rng(1)
        noise = [tuple(rng.choice(4, 2, replace=False)) for _ in range(300)]
        assert after(Search.begin(4), [(1, 0), (1, 2), (1, 3)] * 30).caution < 2
        assert after(Search.begin(4), noise).caution > 3

    def test_who_is_out_has_no_weight_ever_after(self) -> None:
        search = after(Search.begin(4), [(1, 0), (2, 3)]).without(np.array([1, 0, 0, 0], bool))
        assert search.weights[0] == 0
        assert search.mean[0] == 0
        assert search.weights.sum() == pytest.approx(1)
        assert search.mean.sum() == pytest.approx(1)
        assert not search.path.any()
        found = after(search, [(1, 2), (2, 3), (1, 3)] * 5)
        assert found.weights[0] == 0
        assert found.weights.sum() == pytest.approx(1)

    def test_nobody_new_is_out(self) -> None:
        search = after(Search.begin(3), [(1, 0)])
        assert search.without(np.zeros(3, bool)) is search


class TestDistribution:
    def test_draws_are_two_different_ones_by_their_weights(self) -> None:
        distribution = Distribution(3, seed=0)
        distribution.become(Search.begin(3)._replace(weights=np.array([0.6, 0.3, 0.1])))
        draws = np.array([distribution.draw_two() for _ in range(4000)])
        assert (draws[:, 0] != draws[:, 1]).all()
        shares = np.bincount(draws[:, 0], minlength=3) / len(draws)
        np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.03)

    def test_of_one_that_is_left_there_is_nothing_else_to_draw(self) -> None:
        distribution = Distribution(2, seed=0)
        distribution.become(Search.begin(2).without(np.array([True, False])))
        assert distribution.draw_two() == (1, 1)

    def test_a_checkpoint_has_what_was_learned_and_goes_on_drawing(self, tmp_path: Path) -> None:
        one, other = Distribution(4, seed=5), Distribution(4, seed=5)
        one.become(after(one.search, [(0, 1), (0, 2)]))
        one.draw_two()
        path = tf.train.Checkpoint(distribution=one).write(str(tmp_path / "state"))
        tf.train.Checkpoint(distribution=other).read(path).assert_consumed()
        for mine, its in zip(other.search, one.search, strict=True):
            np.testing.assert_array_equal(mine, its)
        assert other.draw_two() == one.draw_two()


def trained(told: list[float], *, drawn: tuple[int, int] = (0, 1)) -> tuple[AutoSample, Search]:
    """A comparison of one step each, in which the model comes to what it is told to."""
    values = iter(told)
    autosample = build("mf", ["rns", "dns:pool=8"])
    autosample.compile(sgd(), steps_per_execution=1)
    learner = LearnByComparing(autosample, lambda: next(values), length=1, seed=0)
    learner.distribution.draw_two = lambda: drawn
    train = toy_train()
    assert steps_per_epoch(train.num_pairs, BATCH) > len(told)
    batches = training_batches(train, BATCH, seed=0, replayed=1)
    autosample.fit(batches, steps_per_epoch=len(told), callbacks=[learner], verbose=0)
    return autosample, learner.distribution.search


def alone(place: int) -> AutoSample:
    """After a step under one of the two."""
    autosample = build("mf", ["rns", "dns:pool=8"])
    autosample.compile(sgd())
    autosample.assign_weights(np.eye(2)[place])
    batches = training_batches(toy_train(), BATCH, seed=0)
    autosample.fit(batches, steps_per_epoch=1, verbose=0)
    return autosample


class TestLearnByComparing:
    @pytest.mark.parametrize(("told", "better"), [([0.5, 0.4], 0), ([0.4, 0.5], 1)])
    def test_the_better_ones_state_is_gone_on_with(self, told: list[float], better: int) -> None:
        autosample, search = trained(told)
        assert search.weights[better] > 0.5
        for mine, its in zip(
            autosample.model.trainable_variables, alone(better).model.trainable_variables,
            strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(mine, its, atol=1e-7)

    def test_no_difference_moves_nothing(self) -> None:
        _, search = trained([0.5, 0.5])
        np.testing.assert_array_equal(search.weights, [0.5, 0.5])

    def test_without_time_for_the_other_the_first_ones_state_stays(self) -> None:
        autosample, search = trained([0.5], drawn=(1, 0))
        np.testing.assert_array_equal(search.weights, [0.5, 0.5])
        np.testing.assert_allclose(
            autosample.model.trainable_variables[0], alone(1).model.trainable_variables[0],
            atol=1e-7,
        )  # fmt: skip

    def test_a_shorter_last_stretch_is_not_compared(self) -> None:
        """Of 7 steps in stretches of 2: the second of the last two would be judged after one."""
        autosample = build("mf", ["rns", "dns:pool=8"])
        autosample.compile(sgd(), steps_per_execution=2)
        steps = []

        def measure() -> float:
            steps.append(int(autosample.optimizer.iterations))
            return 0.1

        learner = LearnByComparing(autosample, measure, length=2, seed=0)
        batches = training_batches(toy_train(), BATCH, seed=0, replayed=2)
        autosample.fit(batches, steps_per_epoch=7, callbacks=[learner], verbose=0)
        assert steps == [2, 2, 4]  # after the first pair the second one's state, as good, goes on
        assert autosample.optimizer.iterations == 4

    def test_the_only_one_left_trains_on_in_every_step(self) -> None:
        autosample = build("mf", ["rns", "dns:pool=8"])
        autosample.drop(["rns"])
        autosample.compile(sgd(), steps_per_execution=1)
        learner = LearnByComparing(autosample, lambda: pytest.fail("was asked"), length=1, seed=0)
        batches = training_batches(toy_train(), BATCH, seed=0, replayed=1)
        autosample.fit(batches, steps_per_epoch=3, callbacks=[learner], verbose=0)
        assert autosample.optimizer.iterations == 3
        assert autosample.weights_by_spec() == {"dns:pool=8": 1.0}

    def test_epochs_end_with_the_weights_that_were_learned(self) -> None:
        autosample, search = trained([0.5, 0.4, 0.5, 0.4])
        np.testing.assert_allclose(
            [autosample.weights_by_spec()[spec] for spec in autosample.specs],
            search.mean,
            rtol=1e-6,
        )


def test_batches_come_twice_in_stretches_and_an_epoch_has_half_its_pairs() -> None:
    train = toy_train()
    steps = steps_per_epoch(train.num_pairs, 4)
    once = list(training_batches(train, 4, seed=0).take(2 * steps))
    twice = list(training_batches(train, 4, seed=0, replayed=2).take(2 * steps))
    order = [step // 4 * 2 + step % 2 for step in range(steps)]
    for epoch in range(2):
        for place, step in enumerate(order):
            expected, found = once[epoch * steps + step], twice[epoch * steps + place]
            tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_comparisons_ask_some_users_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = toy_train()
    assert some_users(pairs, 0) is pairs
    monkeypatch.setattr(asng, "_USERS", 3)
    some = some_users(pairs, 0)
    assert np.count_nonzero(some.degrees) == 3
    asked = some.degrees > 0
    np.testing.assert_array_equal(some.degrees[asked], pairs.degrees[asked])


def test_a_search_records_the_weights_and_retrains_under_them(
    small_data: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        LEAST, samplers=("rns", "pns", "dns:pool=4"), objective="asng", search_epochs=3
    )
    result = autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")
    weights = result["search"]["weights"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
    assert len(set(weights.values())) > 1
    last = history(Run(tmp_path / "run").search / "history.csv")[-1]
    assert {spec: float(last[f"weight/{spec}"]) for spec in weights} == pytest.approx(weights)


def test_an_epoch_of_one_batch_compares_nothing_and_is_refused(
    small_data: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        LEAST, samplers=("rns", "pns"), objective="asng", batch_size=100_000
    )
    with pytest.raises(InputError, match="two batches of train pairs at least"):
        autosample_tf.search(str(small_data), settings, run_dir=tmp_path / "run")

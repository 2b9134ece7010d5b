"""The objective `asng`: weights that learn from what samplers do to validation NDCG.

Adaptive stochastic natural gradient (Akimoto, Shirakawa, Yoshinari, Uchida, Saito & Nishida,
"Adaptive Stochastic Natural Gradient Method for One-Shot Neural Architecture Search", ICML 2019).
The weights are a distribution, of which two samplers are drawn again and again. Each trains the
model alone for a few steps, both from one state on the same batches, and the better one's state
is gone on with. The weights move towards the better one along the natural gradient. The length of
that step grows while steps agree and shrinks while they are noise.

Where we differ: in the paper what is drawn computes the loss, here it trains, so its worth shows
only in what its steps change, and both of a comparison leave from one state. One variable is
drawn and not many, so the floor under its weights is a share of an equal one, and the two drawn
are never the same, which would tell nothing. The paper goes by ranks; here a comparison that is
nearly a tie moves the weights by as much less as its margin is below the usual one, since once a
model has what two samplers give both, it is luck which of them is ahead. Caution divides a step by
four at most: another sampler's time may come. So the weights that a search tells
are their mean over the last steps. The path of past steps is kept in the coordinates
2 sqrt(weights), in which lengths are Fisher's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.interactions import Interactions, Pairs

_FIRST_STEP = 0.2  # the length of the first step of the weights, by Fisher's metric
_AGREEMENT = 1.5  # the paper's alpha: how much longer than noise's a path is that steps agree on
_MOST_CAUTION = 4.0  # by which a step is divided at most
_MARGINS = 64  # comparisons that the usual margin is a mean of, about
_FLOOR = 0.1  # the least weight, as a share of an equal one
_AVERAGED = 32  # steps that the mean is over, about
_COMPARISONS = 16  # in an epoch
CUTOFF = 200  # of the NDCG that is compared: in the first 20 a few steps change next to nothing
_USERS = 2048  # whom a comparison asks, at most


class Search(NamedTuple):
    """What a distribution has learned.

    Attributes:
      weights: [n] float64, summing to 1; 0 of samplers that are out. What is drawn by.
      mean: [n] float64, theirs over the last steps: what a search has found.
      path: [n] float64, the sum of past steps, fading.
      agreed: what the squared length of the path would be if they were noise, in [0, 1].
      caution: in [1, 4]: what the first step's length is divided by.
      margin: by how much two samplers differed over the last comparisons, their mean.
      compared: how often any two were, up to what that mean is of.
    """

    weights: np.ndarray
    mean: np.ndarray
    path: np.ndarray
    agreed: float
    caution: float
    margin: float
    compared: float

    @classmethod
    def begin(cls, n: int) -> Search:
        """Equal weights, and no path."""
        return cls(np.full(n, 1 / n), np.full(n, 1 / n), np.zeros(n), 0.0, 1.0, 0.0, 0.0)

    def without(self, gone: np.ndarray) -> Search:
        """The same with the weights of some samplers [n] bool at 0; the path begins anew."""
        if not self.weights[gone].any():
            return self
        weights, mean = (np.where(gone, 0.0, each) for each in (self.weights, self.mean))
        return self._replace(
            weights=weights / weights.sum(),
            mean=mean / mean.sum(),
            path=np.zeros_like(self.path),
            agreed=0.0,
        )


def moved(search: Search, better: int, worse: int, margin: float) -> Search:
    """What a distribution has learned once one of its samplers did better than another.

    Args:
      search: before.
      better, worse: two different samplers' places, with weights above 0.
      margin: above 0, by how much.
    """
    weights, mean, path, agreed, caution, usual, compared = search
    compared = min(compared + 1, _MARGINS)
    usual += (margin - usual) / compared
    alive = weights > 0
    gradient = np.zeros_like(weights)
    gradient[better], gradient[worse] = 0.5, -0.5
    direction = np.divide(gradient, np.sqrt(weights), where=alive, out=np.zeros_like(weights))
    direction /= np.linalg.norm(direction)
    step = _FIRST_STEP / caution * min(margin / usual, 1.0)
    fading = step / np.sqrt(max(alive.sum() - 1, 1))
    path = (1 - fading) * path + np.sqrt(fading * (2 - fading)) * direction
    agreed = (1 - fading) ** 2 * agreed + fading * (2 - fading)
    caution *= np.exp(fading * (agreed - path @ path / _AGREEMENT))
    weights = _above_the_floor(weights + step * np.sqrt(weights) * direction, alive)
    mean = mean + (weights - mean) / _AVERAGED
    caution = min(max(caution, 1.0), _MOST_CAUTION)
    return Search(weights, mean, path, agreed, caution, usual, compared)


def _above_the_floor(weights: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Weights of those alive of at least the floor, and 1 in sum: what is above it is scaled."""
    floor = _FLOOR / alive.sum()
    above = np.where(alive, np.maximum(weights - floor, 0.0), 0.0)
    return np.where(alive, floor + above * (1 - _FLOOR) / above.sum(), 0.0)


class Distribution(tf.Module):
    """A `Search` in variables, so that checkpoints have it, and who was drawn from it.

    Args:
      n: how many samplers there are.
      seed: of the draws.
    """

    def __init__(self, n: int, seed: int):
        super().__init__(name="asng")
        self._seed = seed
        self._variables = [tf.Variable(part, dtype=tf.float64) for part in Search.begin(n)]
        self._draws = tf.Variable(0, dtype=tf.int64)

    @property
    def search(self) -> Search:
        weights, mean, path, *numbers = (each.numpy() for each in self._variables)
        return Search(weights, mean, path, *map(float, numbers))

    def become(self, search: Search) -> None:
        """Keeps what was learned."""
        for variable, part in zip(self._variables, search, strict=True):
            variable.assign(part)

    def draw_two(self) -> tuple[int, int]:
        """Two samplers' places; of one that is left, its own twice."""
        rng = np.random.default_rng([self._seed, int(self._draws.assign_add(1))])
        weights = self.search.weights
        different = np.count_nonzero(weights) > 1
        first, second = rng.choice(len(weights), 2, replace=not different, p=weights)
        return int(first), int(second)


class LearnByComparing(tf.keras.callbacks.Callback):
    """Trains under one sampler after another, and moves the weights by how they compare.

    A call of the graph is one sampler's stretch, `steps_per_execution` its length, and batches
    are replayed, so that two samplers see the same ones with the same random numbers (but for
    streamed pairs, which come once). One that is the only one left is compared with none, and
    trains on every batch, those replayed twice. Between epochs the weights are those learned. The
    state that both leave from, and the first one's, are kept in memory: tables and the optimizer's
    moments.

    Args:
      autosample: what is trained, under an objective that leaves the weights alone. The
        distribution becomes a part of it, and so of its checkpoints.
      measure: what the better state has more of, as the model stands.
      length: steps of a stretch: of a call of the graph, and of the batches that come twice.
      seed: of the draws.
    """

    def __init__(
        self, autosample: AutoSample, measure: Callable[[], float], length: int, seed: int
    ):
        super().__init__()
        self.length = length
        self._measure = measure
        self.distribution = autosample.distribution = Distribution(len(autosample.specs), seed)
        self._drawn = (0, 0)
        self._first: tuple[float, list[tf.Tensor]] | None = None  # what the first sampler came to

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        dropped = ~self.model.active_mask.numpy()
        self.distribution.become(self.distribution.search.without(dropped))
        self._begin()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        one, other = self._drawn
        if one == other or (batch + 1) % self.length:
            return  # the only one left trains on; an epoch's last, shorter stretch tells nothing
        if self._first is None:
            self._first = self._measure(), self.model.state()
            self.model.go_back_to(self._before)
            self._train_under(other)
        else:
            (value, state), value_of_other = self._first, self._measure()
            if value > value_of_other:
                self.model.go_back_to(state)
            if margin := abs(value - value_of_other):
                better, worse = (one, other) if value > value_of_other else (other, one)
                self.distribution.become(moved(self.distribution.search, better, worse, margin))
            self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first is not None:  # there was no time for the other one
            self.model.go_back_to(self._first[1])
        self.model.assign_weights(self.distribution.search.mean)
        if logs is not None:
            logs.update({f"weight/{s}": w for s, w in self.model.weights_by_spec().items()})

    def _begin(self) -> None:
        self._drawn, self._first = self.distribution.draw_two(), None
        self._before = self.model.state()
        self._train_under(self._drawn[0])

    def _train_under(self, place: int) -> None:
        self.model.assign_weights(np.eye(len(self.model.specs))[place])


def stretch_length(steps_an_epoch: int) -> int:
    """How many steps a sampler is tried for, so that an epoch has its comparisons."""
    return -(-steps_an_epoch // (2 * _COMPARISONS))


def some_users(held_out: Pairs, seed: int) -> Pairs:
    """The held-out pairs of some users at random, whom comparisons ask; streamed ones' of all."""
    users = np.flatnonzero(held_out.degrees)
    if len(users) <= _USERS or not isinstance(held_out, Interactions):
        return held_out
    chosen = np.random.default_rng(seed).choice(users, _USERS, replace=False)
    return held_out.select(np.isin(held_out.users, chosen))

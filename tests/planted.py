"""Worlds in which one sampler is best by construction, for what chooses among samplers.

Users and items have tastes; a user likes the items of its own taste, and has been seen with
some of them. What competes with its held-out items are the items of all other tastes, so a
sampler that draws from these (`Rivals`) is best. The others draw from the user's own taste
(false negatives), half and half, or from one other taste that is a tenth of the catalogue
(soon easy, and rarely in the way).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
from worlds import from_dense

from autosample_tf.autosample import AutoSample
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.samplers.contract import Context, Negatives, Sampler
from autosample_tf.stages.asng import LearnByComparing

BATCH = 64


@dataclasses.dataclass(frozen=True)
class World:
    """A planted world.

    Attributes:
      tastes: of users and of items, the last item taste being nobody's and small.
      users: of each taste.
      items: of each taste.
      observed: the share of what a user likes that is trained on; a tenth is held out.
    """

    tastes: int
    users: int
    items: int
    observed: float

    @property
    def unloved(self) -> int:
        """Items that nobody likes: a tenth of the others."""
        return self.tastes * self.items // 10

    @property
    def num_items(self) -> int:
        return self.tastes * self.items + self.unloved

    def pairs(self) -> tuple[Interactions, Interactions]:
        """Train and held-out pairs."""
        users = np.arange(self.tastes * self.users) % self.tastes
        items = np.r_[np.arange(self.tastes * self.items) % self.tastes, [-1] * self.unloved]
        drawn = np.random.default_rng(0).random((len(users), len(items)))
        liked = users[:, None] == items[None, :]
        train = liked & (drawn < self.observed)
        return from_dense(train), from_dense(liked & ~train & (drawn > 0.9))


class Planted(Sampler):
    """A negative of the user's own taste with some chance, else of another one.

    Args:
      world: whose tastes.
      name: of the sampler, which tells it from others.
      own: the chance of the own taste.
      unloved: draw the rest from the unloved items; else from the other tastes.
      own_later: the chance once `later` is set; None: as before.
      later: a variable that changes the world.
    """

    def __init__(
        self,
        world: World,
        name: str,
        own: float,
        *,
        unloved: bool = False,
        own_later: float | None = None,
        later: tf.Variable | None = None,
    ):
        super().__init__()
        self._world, self._spec, self._unloved = world, name, unloved
        self._own = own, own if own_later is None else own_later
        self._later = later

    @property
    def spec(self) -> str:
        return self._spec

    def sample(self, context: Context) -> Negatives:
        world, draws = self._world, context.draws
        own_chance = self._own[0]
        if self._later is not None:
            own_chance = tf.where(self._later, self._own[1], self._own[0])
        is_own = draws.uniform(f"{self._spec}/own", 1) < own_chance
        place = draws.integers(f"{self._spec}/item", 1, world.items)
        shift = 1 + draws.integers(f"{self._spec}/taste", 1, world.tastes - 1)
        taste = (context.users[:, None] + tf.where(is_own, 0, shift)) % world.tastes
        items = place * world.tastes + taste
        if self._unloved:
            last = draws.integers(f"{self._spec}/unloved", 1, world.unloved)
            items = tf.where(is_own, items, world.tastes * world.items + last)
        allowed = ~context.is_positive(context.users, items)
        return Negatives(items, tf.cast(allowed, tf.float32))


class Game:
    """One planted world under one objective, played again and again from other beginnings.

    What is traced is traced once: a seed chooses the model's first parameters and, by the
    epoch that it begins with, the order of pairs and every draw.
    """

    def __init__(self, world: World, samplers: list[Sampler], objective: str):
        train, held_out = world.pairs()
        self._steps = steps_per_epoch(train.num_pairs, BATCH)
        self.model = MF(train.num_users, train.num_items, dim=8, init_scale=0.1)
        compares = objective == "asng"
        self.autosample = AutoSample(
            self.model,
            train,
            samplers=samplers,
            objective="uniform" if compares else objective,
            validation=held_out,
            temperature=1.0 if objective == "joint" else None,
            # Quicker than the defaults, for worlds of some hundred steps.
            logits_optimizer=tf.keras.optimizers.SGD(0.02, jit_compile=False)
            if objective == "validation"
            else None,
        )
        optimizer = tf.keras.optimizers.Adam(0.01, jit_compile=False)
        length = self._steps // 2 if compares else self._steps  # a comparison an epoch
        self.autosample.compile(optimizer, steps_per_execution=length)
        self._train = train
        self._learner: LearnByComparing | None = None
        changed = self.autosample.changed_by_steps()
        if compares:
            evaluator = Evaluator(self.model, held_out, train, [world.num_items])
            self._learner = LearnByComparing(
                self.autosample,
                lambda: evaluator.mean()[f"ndcg@{world.num_items}"],
                length,
                seed=0,
            )
            changed += self._learner.distribution.variables
        self._beginning = [(v, v.numpy()) for v in changed]

    def begin(self, seed: int) -> None:
        for variable, value in self._beginning:
            variable.assign(value)
        rng = np.random.default_rng(seed)
        for table in self.model.trainable_variables:
            table.assign(0.1 * rng.standard_normal(table.shape))
        self._epoch = 1000 * seed

    def play(self, epochs: int) -> str:
        """Trains on; the sampler with the largest weight."""
        replayed = self._learner.length if self._learner else None
        batches = training_batches(
            self._train, BATCH, seed=0, first_epoch=self._epoch, replayed=replayed
        )
        self.autosample.fit(
            batches,
            steps_per_epoch=self._steps,
            epochs=epochs,
            callbacks=[self._learner] if self._learner else [],
            verbose=0,
        )
        self._epoch += epochs
        weights = self.autosample.weights_by_spec()
        return max(weights, key=weights.__getitem__)

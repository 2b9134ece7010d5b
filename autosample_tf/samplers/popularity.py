"""Popularity-based negative sampling: items drawn as a power of their train counts.

The power of word2vec's noise distribution (Mikolov et al., "Distributed Representations
of Words and Phrases and their Compositionality", NIPS 2013, section 2.2: 3/4). Counts are
those of the train pairs alone; items without any are never drawn.

Draws cost two look-ups each whatever the catalogue: Vose's form of Walker's alias method
(Vose, "A linear algorithm for generating random numbers with a given distribution", 1991)
splits the distribution into equally likely columns of at most two items.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Pairs
from autosample_tf.ops.lookups import look_up, table
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.selection import check_at_least_0, first_allowed

_MOST_TRIES = 8


class PNS(Sampler):
    """Proportional to popularity^alpha over the user's unobserved items.

    Args:
      alpha: at least 0. 0 is uniform over the items that have a train pair; more draws
        popular items more often, whose scores are higher, and punishes them more.
    """

    card = Card(
        name="pns",
        formula="q(j | u) ~ popularity_j^alpha over the user's unobserved items",
        cost="1 to 8 draws and look-ups, more in denser data",
        source="the noise distribution of Mikolov et al., NIPS 2013",
        defaults={"alpha": "Mikolov et al."},
    )
    knows_log_q = True

    def __init__(self, alpha: float = 0.75):
        super().__init__()
        self.alpha = check_at_least_0("pns's alpha", alpha)

    def build(self, feedback: Feedback, dim: int) -> None:
        train = feedback.train
        mass = power_of_popularity(train.popularity, self.alpha)
        self._shares = UnobservedShares(train, mass)
        self._tries = enough_tries(train, self._shares.observed)
        kept, alias = alias_table(mass)
        self._kept, self._alias = tf.constant(kept, tf.float32), table(alias)

    def sample(self, context: Context) -> Negatives:
        num_items = self._kept.shape[0]
        column = context.draws.integers(f"{self.spec}/column", self._tries, num_items)
        uniform = context.draws.uniform(f"{self.spec}/side", self._tries)
        items = tf.where(
            uniform < tf.gather(self._kept, column), column, look_up(self._alias, column)
        )
        negatives = first_allowed(items, ~context.is_positive(context.users, items))
        log_q = self._shares.log_of(context.users, negatives.items)
        return Negatives(negatives.items, negatives.weights, log_q=log_q)


class UnobservedShares:
    """How likely a draw in proportion to items' masses is which, of those its user has not seen.

    Args:
      train: the pairs being trained on.
      mass: [num_items] float64 summing to 1.

    Attributes:
      observed: [num_users] float64, the mass of what each user has seen.
    """

    def __init__(self, train: Pairs, mass: np.ndarray):
        self.observed = train.row_sums(mass)
        self._log_mass = tf.constant(np.log(np.maximum(mass, 1e-300)), tf.float32)
        left = np.maximum(1 - self.observed, 1e-12)
        self._log_unobserved = tf.constant(np.log(left), tf.float32)

    def log_of(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """[batch, n], of users [batch] and items [batch, n] that they have not seen."""
        log_mass = tf.gather(self._log_mass, items)
        return log_mass - tf.gather(self._log_unobserved, users)[:, None]


def power_of_popularity(popularity: np.ndarray, alpha: float) -> np.ndarray:
    """[num_items] float64 summing to 1: popularity^alpha, and 0 where popularity is 0."""
    share = popularity / popularity.max()  # at most 1: no power of it overflows
    mass = np.where(popularity > 0, share.astype(np.float64) ** alpha, 0.0)
    return mass / mass.sum()


def enough_tries(train: Pairs, is_positive: np.ndarray) -> int:
    """How many draws an example may use up on positives.

    So many that at most one example in a thousand has no negative in a step, but 8 at most.

    Args:
      train: the pairs being trained on.
      is_positive: [num_users], the chance that a draw is one of the user's positives.
    """
    for tries in range(1, _MOST_TRIES):
        if np.average(is_positive**tries, weights=train.degrees) <= 1e-3:
            return tries
    return _MOST_TRIES


def alias_table(mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of n equally likely columns, with what probability each is its own item, else whose.

    Args:
      mass: [n] float64 summing to 1.

    Returns:
      The probability to keep the column's item [n] float64, and the other item [n] int32.
    """
    n = len(mass)
    kept, alias = mass * n, np.arange(n, dtype=np.int32)
    small, large = list(np.flatnonzero(kept < 1)), list(np.flatnonzero(kept >= 1))
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        kept[rich] -= 1 - kept[poor]
        if kept[rich] < 1:
            small.append(large.pop())
    for rest in (small, large):  # all of 1 but for rounding, save what has no mass at all
        kept[rest] = np.where(mass[rest] > 0, 1.0, 0.0)
    # Rounding may leave an item without mass and without alias: it lends its column away.
    alias[(kept == 0) & (alias == np.arange(n))] = int(mass.argmax())
    return kept, alias

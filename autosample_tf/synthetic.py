"""A small data set made in code: latent tastes and Zipf popularity.

For first runs, tests and examples. Never a basis for claims about models or samplers: it
has the structure that we gave it, and nothing else that real data has.
"""

from __future__ import annotations

import numpy as np

from autosample_tf.errors import expected
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.splits import hold_out


def synthetic(
    num_users: int = 600,
    num_items: int = 1200,
    seed: int = 2023,
    *,
    num_factors: int = 6,
    mean_pairs: int = 50,
    taste: float = 1.5,
    zipf_exponent: float = 0.7,
    test_fraction: float = 0.2,
) -> Dataset:
    """Draws a data set of about `num_users * mean_pairs` pairs, split into train and test.

    A user draws items without replacement, item i with probability in proportion to
    rank(i)^-zipf_exponent * exp(taste * <u, i>), where u and i are latent vectors and
    rank is the item's place in an order by popularity that has nothing to do with its index.

    Args:
      num_users: how many users; memory is in proportion to num_users * num_items.
      num_items: how many items, at least 10.
      seed: fixes everything; the same on every machine and NumPy version.
      num_factors: the length of the latent vectors.
      mean_pairs: how many items a user has on average, before the cap of half of the items.
      taste: how much the latent vectors count: 0 leaves popularity alone.
      zipf_exponent: how fast popularity falls off: 0 makes all items alike.
      test_fraction: the share of each user's pairs to test on, in (0, 1).

    Raises:
      InputError: if there would be no user, or too few items or pairs to hold some out.
    """
    if min(num_users - 1, num_items - 10, mean_pairs - 5, num_factors - 1) < 0:
        raise expected(
            "at least 1 user, 10 items, 5 pairs a user and 1 factor",
            received=f"{num_users}, {num_items}, {mean_pairs} and {num_factors}",
            remedy="Ask for more.",
        )
    uniforms = _Uniforms(seed)
    scores = taste * _affinities(uniforms, num_users, num_items, num_factors)
    ranks = 1 + np.argsort(uniforms.draw(num_items), kind="stable")
    scores -= zipf_exponent * np.log(ranks)
    degrees = _degrees(uniforms.draw(num_users), mean_pairs, num_items // 2)
    users, items = _draw_items(scores, degrees, uniforms.draw(num_users, num_items))
    pairs = Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)
    train, test = hold_out(pairs, test_fraction, seed=seed)
    user_ids = np.array([f"u{user}" for user in range(num_users)], np.str_)
    item_ids = np.array([f"i{item}" for item in range(num_items)], np.str_)
    return Dataset("synthetic", train, test, user_ids, item_ids)


class _Uniforms:
    """Uniform draws that stay the same from one NumPy version to the next.

    NumPy promises that of a bit generator's raw output, not of `Generator`'s methods.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def draw(self, *shape: int) -> np.ndarray:
        """[*shape] float64, strictly between 0 and 1."""
        raw = self._bits.random_raw(int(np.prod(shape))).reshape(shape)
        return ((raw >> np.uint64(12)) + 0.5) * 2.0**-52


def _affinities(
    uniforms: _Uniforms, num_users: int, num_items: int, num_factors: int
) -> np.ndarray:
    """[num_users, num_items]: products of latent vectors, of mean 0 and variance 1."""
    # A uniform number on [-√3, √3] has variance 1, and a sum of products of two has num_factors.
    users = (2 * uniforms.draw(num_users, num_factors) - 1) * np.sqrt(3)
    items = (2 * uniforms.draw(num_items, num_factors) - 1) * np.sqrt(3)
    return users @ items.T / np.sqrt(num_factors)


def _degrees(uniforms: np.ndarray, mean: int, most: int) -> np.ndarray:
    """[num_users] int64: how many items each has, 5 and an exponential tail, at most `most`."""
    return np.minimum(5 - np.log(uniforms) * (mean - 5), most).astype(np.int64)


def _draw_items(
    scores: np.ndarray, degrees: np.ndarray, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each user's `degrees` items, drawn without replacement with odds exp(scores).

    Adding Gumbel noise and taking the largest does just that (the Gumbel top-k trick: Kool,
    van Hoof and Welling, "Stochastic Beams and Where to Find Them", ICML 2019).

    Args:
      scores: [num_users, num_items], log-odds.
      degrees: [num_users], how many to draw.
      uniforms: [num_users, num_items], strictly between 0 and 1.

    Returns:
      [num_pairs] users and [num_pairs] items.
    """
    noisy = scores - np.log(-np.log(uniforms))
    ordered = np.argsort(-noisy, axis=1, kind="stable")  # [num_users, num_items]
    drawn = np.arange(scores.shape[1]) < degrees[:, None]  # [num_users, num_items]
    return np.nonzero(drawn)[0], ordered[drawn]

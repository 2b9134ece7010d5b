"""NSCaching: a small cache of hard items for each user, which drifts towards the hardest.

Zhang et al., "NSCaching: Simple and Efficient Negative Sampling for Knowledge Graph
Embedding", ICDE 2019. The negative is a uniform draw from the user's cache. After it the
cache is renewed: of its items and of random ones as many as it holds are kept, drawn
without replacement in proportion to exp(score / temperature). Hard items are kept for as
long as they are hard, without being looked for at every step.

Written for triples: the authors' caches belong to (relation, tail) and (head, relation),
here to the user. Their code starts with random items, positives among them, which it may
replace at each evaluation; it keeps no item from being in a cache twice, renews a cache
as often as its pair is in the batch, the last renewal counting, and before the model's
step. Here a cache holds distinct items and never a train positive of its user, and a user is
renewed once a step, by the first of his rows, after the model's step: by the scores that random
items had before it, and those that the cache's have after it, of a model whose items are looked up.
"""

from __future__ import annotations

import tensorflow as tf

from autosample_tf.samplers.caches import NOTHING, initial_cache, read_rows, renewed, write_rows
from autosample_tf.samplers.contract import (
    Card,
    Context,
    Feedback,
    Negatives,
    Sampler,
    state_variable,
)
from autosample_tf.samplers.selection import check_above_0, check_count, pick


class NSCaching(Sampler):
    """A uniform draw from the user's cache of items that scored well.

    Args:
      cache: items a user has in store (the paper's N1), at least 1; fewer are harder, and
        more alike from step to step.
      random: random items that may enter at a step (the paper's N2), at least 1; more keep
        the cache nearer to the model as it is, at as many look-ups.
      temperature: of the draw of what is kept, above 0; lower keeps the hardest.
    """

    card = Card(
        name="nscaching",
        formula="one of the user's cache; the cache: without replacement, q(j) ~ exp(s_j)",
        cost="`cache` + `random` look-ups and scores, and num_users * `cache` integers",
        source="Zhang et al., ICDE 2019",
        defaults={
            "cache": "ours, near the authors' code (50) and paper (30)",
            "random": "as many as the cache, as the authors have it",
            "temperature": "the paper has none, which is 1; the authors' code has 2",
        },
    )
    needs_rows = True

    def __init__(self, cache: int = 32, random: int = 32, temperature: float = 1.0):
        super().__init__()
        self.cache = check_count("nscaching", cache, what="cache")
        self.random = self.pool = check_count("nscaching", random, what="random")
        self.temperature = check_above_0("nscaching's temperature", temperature)

    def build(self, feedback: Feedback, dim: int) -> None:
        self._cache = state_variable(initial_cache(feedback.rows, self.cache), "cache")

    def sample(self, context: Context) -> Negatives:
        cached = read_rows(context, self._cache)  # [batch, cache], free places last
        count = tf.reduce_sum(tf.cast(cached != NOTHING, tf.float32), axis=1)
        uniform = context.draws.uniform(self.spec, 1)[:, 0]
        item = tf.maximum(pick(cached, tf.cast(uniform * count, tf.int32)), 0)
        return Negatives(item, tf.cast(count > 0, tf.float32)[:, None])

    def update(self, context: Context, negatives: Negatives) -> None:
        cached, pool = read_rows(context, self._cache), context.pool.first(self.random)
        uniform = context.draws.uniform(f"{self.spec}/keep", self.cache + self.random)
        kept, _, _ = renewed(context, cached, pool, self.temperature, uniform)
        write_rows(context, (self._cache, kept))

"""IRGAN: a generator over the whole catalogue plays against the model.

Wang et al., "IRGAN: A Minimax Game for Unifying Generative and Discriminative Information
Retrieval Models", SIGIR 2017. With p = softmax(g_u) over all items, the negative is drawn
from softmax(g_u / temperature). The generator ascends on the mean over p of the reward
R = 2 (sigma(s) - 1/2), s being the model's score: it learns to draw what the model takes
for positives. Its own draws come from p' = (1 - c) p + c uniform(positives of u), weighed
by p / p', and it descends on -(p / p') R log p: good items are shown to it that it would
not find.

As in the authors' code for recommendation, which has no baseline, but: the positives of
their model are paired with draws that may be positives too, while here these are masked;
model and generator take turns there, 100 epochs and 50, the negatives being drawn anew in
every fifth, while here both move at each step; the model's loss is the mixture's instead
of a logistic loss; and one draw an example trains the generator, where theirs has twice as
many as the user has positives. The share of positives among them is the example's own.

Every step costs logits of all items for the whole batch: for small catalogues. With 2,048
examples on two cores it took 0.13 s at 3,706 items, 1.7 s and 3 GB at 40,981.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from autosample_tf.interactions import Interactions
from autosample_tf.ops.lookups import look_up, table
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Sampler
from autosample_tf.samplers.generator import Generator, draw_of_many, reinforce
from autosample_tf.samplers.selection import (
    auxiliary_mean,
    check_above_0,
    check_count,
    check_share,
    log_share,
    pick,
    row_weight,
    softmax_weights,
)


class IRGAN(Sampler):
    """An unobserved item, drawn by a generator that is rewarded with the item's score.

    Args:
      dim: entries of the generator's vectors, at least 1.
      temperature: of the negatives' draw, above 0; lower draws the generator's favourites.
      positives: the share of positives among the items that the generator is trained on,
        in [0, 1].
    """

    card = Card(
        name="irgan",
        formula="q(j) ~ exp(g_uj / temperature) over the unobserved, g rewarded with sigma(s_j)",
        cost="logits of all items for each example, and their training",
        source="Wang et al., SIGIR 2017",
        defaults={
            "dim": "as kbgan; the authors' code has 5, for MovieLens-100K",
            "temperature": "the authors' code",
            "positives": "the authors' code",
        },
    )
    needs_rows = True
    knows_log_q = True

    def __init__(self, dim: int = 32, temperature: float = 0.2, positives: float = 0.2):
        super().__init__()
        self.dim = check_count("irgan", dim, what="dim")
        self.temperature = check_above_0("irgan's temperature", temperature)
        self.positives = check_share("irgan's positives", positives)

    def build(self, feedback: Feedback, dim: int) -> None:
        self._generator = Generator(feedback.train, self.dim)
        self._liked = LikedMask(feedback.rows)

    def sample(self, context: Context) -> Negatives:
        logits = self._generator.all_logits(context.users)  # [batch, num_items]
        allowed = ~self._liked.of(context.users)
        shares = softmax_weights(logits / self.temperature, allowed)
        column = draw_of_many(shares, context.draws.uniform(self.spec, 2))
        return Negatives(
            items=column[:, None],
            weights=row_weight(allowed),
            log_q=log_share(shares, column),
            auxiliary_loss=self._training(context, logits),
        )

    def _training(self, context: Context, logits: tf.Tensor) -> tf.Tensor:
        """What the generator learns from: a scalar."""
        log_p = tf.nn.log_softmax(logits, axis=1)
        items = self._trained_on(context, tf.exp(tf.stop_gradient(log_p)))
        log_drawn = pick(log_p, items)[:, 0]
        users = tf.stop_gradient(context.user_embeddings)
        scores = context.score(users, context.embed_cached(items))
        rewards = 2.0 * (tf.sigmoid(scores) - 0.5)
        p = tf.exp(log_drawn)
        shown = self.positives * self._liked.shares(context, items)
        importance = tf.math.divide_no_nan(p, (1.0 - self.positives) * p + shown)
        losses = reinforce(log_drawn, importance * rewards)
        return auxiliary_mean(context, losses, tf.ones_like(losses))

    def _trained_on(self, context: Context, shares: tf.Tensor) -> tf.Tensor:
        """Items [batch] int32 from p': the generator's own, and some of the user's positives.

        An epoch has each pair once: the example's positive is uniform among its user's.
        """
        stream = f"{self.spec}/generator"
        own = draw_of_many(shares, context.draws.uniform(stream, 2))
        is_shown = context.draws.uniform(f"{stream}/shown", 1)[:, 0] < self.positives
        return tf.where(is_shown, context.positives, own)


class LikedMask:
    """Which of all items are train positives of a user, a row at a time."""

    def __init__(self, train: Interactions):
        self._num_items = train.num_items
        self._widest = max(1, int(train.degrees.max(initial=0)))
        self._first = tf.constant(train.offsets[:-1])
        self._degrees = table(train.degrees)
        self._items = table(np.append(train.items, np.int32(0)))  # never empty

    def of(self, users: tf.Tensor) -> tf.Tensor:
        """[batch, num_items] bool, of users [batch]."""
        rank = tf.range(self._widest)[None, :]
        place = tf.gather(self._first, users)[:, None] + tf.cast(rank, tf.int64)
        items = look_up(self._items, tf.minimum(place, self._items.shape[0] - 1))
        # A column behind the last takes what is beyond a user's positives.
        items = tf.where(rank < look_up(self._degrees, users)[:, None], items, self._num_items)
        rows, width = users.shape[0], self._num_items + 1
        flat = tf.range(rows)[:, None] * width + items
        hits = tf.scatter_nd(
            tf.reshape(flat, [-1, 1]), tf.ones([rows * self._widest], tf.int32), [rows * width]
        )
        return tf.reshape(hits, [rows, width])[:, : self._num_items] > 0

    def shares(self, context: Context, items: tf.Tensor) -> tf.Tensor:
        """[batch]: probability of items [batch] under a uniform draw of the user's positives."""
        is_liked = context.is_positive(context.users, items[:, None])[:, 0]
        degrees = tf.maximum(look_up(self._degrees, context.users), 1)
        return tf.cast(is_liked, tf.float32) / tf.cast(degrees, tf.float32)

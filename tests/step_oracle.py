"""One training step in NumPy, float64, a pair at a time: what TensorFlow is held against."""

from __future__ import annotations

import dataclasses

import numpy as np
from worlds import Batch, to_dense

from autosample_tf.autosample import AutoSample
from autosample_tf.interactions import Interactions
from autosample_tf.membership import PairSet
from autosample_tf.randomness import Draws
from autosample_tf.sampling import sample_batch


@dataclasses.dataclass
class Drawn:
    """A sampler's negatives: each is share * positive + (1 - share) * item.

    Attributes:
      items: [batch, n]; weights: [batch, n]; shares: [batch, n]; scale: [batch].
    """

    items: np.ndarray
    weights: np.ndarray
    shares: np.ndarray
    scale: np.ndarray


def draw(autosample: AutoSample, batch: Batch, train: Interactions) -> list[Drawn]:
    """What the samplers answer on this batch."""
    sampled = sample_batch(
        autosample.model,
        [s for s in autosample.samplers if s.spec in autosample.survivors],
        users=batch["user"],
        positives=batch["positive"],
        train_pairs=PairSet(train),
        draws=Draws(autosample.seed, batch["position"], batch["user"].shape[0]),
    )
    context = sampled.context
    answers = []
    for negatives in sampled.negatives:
        shares = np.zeros(negatives.items.shape)
        if negatives.embeddings is not None:
            # e = a p + (1 - a) c: a is where e projects to on the way from c to p.
            item = context.embed(negatives.items).numpy().astype(float)
            way = context.positive_embeddings.numpy()[:, None, :] - item
            gone = negatives.embeddings.numpy() - item
            shares = (gone * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-30)
        scale = np.ones(len(shares)) if negatives.scale is None else negatives.scale.numpy()
        weights = negatives.weights.numpy().astype(float)
        answers.append(Drawn(negatives.items.numpy(), weights, shares, scale.astype(float)))
    return answers


def parameters(model: object) -> np.ndarray:
    """Users above items, [num_users + num_items, dim] float64."""
    return np.concatenate([model.user_table.numpy(), model.item_table.numpy()]).astype(float)


def mean_of_layers(train: Interactions, layers: int) -> np.ndarray:
    """The matrix 1/(L+1) sum_l A^l; of 0 layers (MF) the identity."""
    liked = to_dense(train).astype(float)
    links = np.block(
        [
            [np.zeros((train.num_users,) * 2), liked],
            [liked.T, np.zeros((train.num_items,) * 2)],
        ]
    )
    degrees = links.sum(axis=1)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
    adjacency = scale[:, None] * links * scale[None, :]
    powers = [np.linalg.matrix_power(adjacency, layer) for layer in range(layers + 1)]
    return np.mean(powers, axis=0)


def shares_of(drawn: list[Drawn], weights: np.ndarray) -> np.ndarray:
    """[batch, samplers]: the weights of those that have a negative, rescaled to sum to 1."""
    available = np.stack([answer.weights.sum(axis=1) > 0 for answer in drawn], axis=1)
    shares = available * weights[None, :]
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def softplus(x: float) -> float:
    return float(np.logaddexp(0.0, x))


def sigmoid(x: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -x)))


@dataclasses.dataclass
class Step:
    """The mixture's BPR loss and its gradient in layer 0's rows, worked out by hand.

    Attributes:
      smoothing: the matrix from layer 0 to representations.
      num_users: rows of users, above those of items.
      batch: as NumPy arrays.
      drawn: each sampler's negatives.
      weights: the mixture's, [samplers].
      mixing: `loss` or `instance`.
      l2: lambda.
    """

    smoothing: np.ndarray
    num_users: int
    batch: dict[str, np.ndarray]
    drawn: list[Drawn]
    weights: np.ndarray
    mixing: str
    l2: float

    def loss_and_gradient(self, rows0: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss, and its gradient [num_users + num_items, dim]."""
        rows = self.smoothing @ rows0
        gradient, gradient0 = np.zeros_like(rows), np.zeros_like(rows)
        shares = shares_of(self.drawn, self.weights)
        loss = 0.0
        for b, (user, positive) in enumerate(self._pairs()):
            # A row's part of the mean over real pairs; none where nobody has a negative.
            part = float(self.batch["weight"][b]) * shares[b].any() / len(shares)
            negatives = list(self._negatives(b, shares[b]))
            pairwise = self._by_loss if self.mixing == "loss" else self._by_instance
            loss += part * pairwise(rows, gradient, user, positive, negatives, part)
            loss += part * self._norms(rows0, gradient0, user, positive, negatives, part)
        return loss, self.smoothing.T @ gradient + gradient0

    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.batch["user"], self.batch["positive"] + self.num_users, strict=True))

    def _negatives(self, b: int, shares: np.ndarray) -> object:
        """(item's row, its share of the positive, mixture weight, scale) of each negative."""
        for answer, share in zip(self.drawn, shares, strict=True):
            for n in range(answer.items.shape[1]):
                row = answer.items[b, n] + self.num_users
                weight = share * answer.weights[b, n]
                yield row, answer.shares[b, n], weight, answer.scale[b]

    def _by_loss(self, rows, gradient, user, positive, negatives, part) -> float:
        """sum_k p_k log(1 + exp(u . (e_k - p)))."""
        u, p, total = rows[user], rows[positive], 0.0
        for item, share, weight, scale in negatives:
            e = share * p + (1 - share) * rows[item]
            x = u @ (e - p)
            total += weight * scale * softplus(x)
            slope = part * weight * scale * sigmoid(x)  # d loss / d x
            gradient[user] += slope * (e - p)
            gradient[positive] += slope * (share - 1) * u
            gradient[item] += slope * (1 - share) * u
        return total

    def _by_instance(self, rows, gradient, user, positive, negatives, part) -> float:
        """log(1 + exp(u . (sum_k p_k e_k - p)))."""
        u, p = rows[user], rows[positive]
        mixed = sum(w * (a * p + (1 - a) * rows[item]) for item, a, w, _ in negatives)
        x = u @ (mixed - p)
        slope = part * sigmoid(x)
        gradient[user] += slope * (mixed - p)
        gradient[positive] -= slope * u
        for item, share, weight, _ in negatives:
            gradient[positive] += slope * weight * share * u
            gradient[item] += slope * weight * (1 - share) * u
        return softplus(x)

    def _norms(self, rows0, gradient0, user, positive, negatives, part) -> float:
        """lambda/2 (|u|^2 + |i|^2 + sum_k p_k |j_k|^2), of layer 0."""
        total = 0.0
        weighted = [(user, 1.0), (positive, 1.0), *((row, w) for row, _, w, _ in negatives)]
        for row, weight in weighted:
            total += self.l2 / 2 * weight * rows0[row] @ rows0[row]
            gradient0[row] += part * self.l2 * weight * rows0[row]
        return total

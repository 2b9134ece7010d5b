"""One training step in NumPy, float64: what TensorFlow is held against.

The loss is written out by hand, its gradient taken by central differences. What a sampler
drew is given; how a synthesized negative follows from it is written out here again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from worlds import Batch, to_dense

from autosample_tf.autosample import AutoSample
from autosample_tf.interactions import Interactions
from autosample_tf.models import NGCF
from autosample_tf.samplers import Context, Negatives, Sampler

# Layer 0's rows, users above items, to all layers as they are read: [num_layers, nodes, width].
Propagation = Callable[[np.ndarray], np.ndarray]
# Layers [..., num_layers, width] to representations [..., dim].
Combination = Callable[[np.ndarray], np.ndarray]
# The step's layers [num_layers, nodes, width], users and positives [batch] as nodes, to the
# negatives' representations [batch, n, dim].
Synthesis = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# The same arguments, to the loss that a sampler trains for itself.
Auxiliary = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def no_auxiliary(layers: np.ndarray, users: np.ndarray, positives: np.ndarray) -> float:
    return 0.0


@dataclasses.dataclass
class Drawn:
    """A sampler's negatives on a batch.

    Attributes:
      items: [batch, n], as nodes.
      weights: [batch, n].
      scale: [batch].
      log_q: [batch, n], zeros where the sampler does not know it.
      synthesis: None: the items' own representations.
      auxiliary: the sampler's own loss; of most a constant, which does not move the model.
    """

    items: np.ndarray
    weights: np.ndarray
    scale: np.ndarray
    log_q: np.ndarray
    synthesis: Synthesis | None
    auxiliary: Auxiliary = no_auxiliary


def draw(autosample: AutoSample, batch: Batch) -> list[Drawn]:
    """What the samplers answer on this batch."""
    sampled = autosample.sample(batch)
    first_item, combine = autosample.model.num_users, combination_of(autosample.model)
    drawn = []
    for sampler, negatives in zip(autosample.active_samplers, sampled.negatives, strict=True):
        scale = np.ones(len(batch["user"])) if negatives.scale is None else negatives.scale
        drawn.append(
            Drawn(
                items=negatives.items.numpy() + first_item,
                weights=negatives.weights.numpy().astype(float),
                scale=np.asarray(scale, float),
                log_q=np.zeros(negatives.items.shape)
                if negatives.log_q is None
                else negatives.log_q.numpy().astype(float),
                synthesis=synthesis_of(sampler, sampled.context, negatives, first_item, combine),
                auxiliary=auxiliary_of(sampler, sampled.context, negatives, first_item, combine),
            )
        )
    return drawn


def synthesis_of(
    sampler: Sampler,
    context: Context,
    negatives: Negatives,
    first_item: int,
    combine: Combination,
) -> Synthesis | None:
    """How the sampler's negatives follow from the layers, on what it drew."""
    if negatives.embeddings is None:
        return None
    if sampler.card.name == "dens":
        chosen = chosen_by_dens(sampler, context) + first_item

        def raw(layers: np.ndarray, users: np.ndarray, positives: np.ndarray) -> np.ndarray:
            return combine(layers[np.arange(chosen.shape[1]), chosen])[:, None]

        return raw
    hardest = hardest_by_hand(sampler.pool, context) + first_item  # [batch, layers]
    layer = np.arange(hardest.shape[1])
    if sampler.card.name == "mixgcf":
        share = context.draws.uniform(sampler.spec, len(layer)).numpy()[:, :, None]

        def mixed(layers: np.ndarray, users: np.ndarray, positives: np.ndarray) -> np.ndarray:
            p = layers[:, positives].transpose(1, 0, 2)
            return combine(share * p + (1 - share) * layers[layer, hardest])[:, None]

        return mixed
    assert sampler.card.name == "dins"

    def by_dimension(layers: np.ndarray, users: np.ndarray, positives: np.ndarray) -> np.ndarray:
        p, h = layers[:, positives].transpose(1, 0, 2), layers[layer, hardest]
        u = layers[:, users].transpose(1, 0, 2)
        q = combine(u).reshape(len(u), -1, u.shape[2])  # layer by layer, or one for all
        up, down = np.exp(q * h), sampler.alpha * np.exp(q * p)
        return combine((down * p + up * h) / (up + down))[:, None]

    return by_dimension


def auxiliary_of(
    sampler: Sampler,
    context: Context,
    negatives: Negatives,
    first_item: int,
    combine: Combination,
) -> Auxiliary:
    """How the sampler's own loss follows from the layers, on what it drew."""
    if negatives.auxiliary_loss is None or sampler.card.name != "dens":
        constant = float(negatives.auxiliary_loss or 0.0)
        return lambda layers, users, positives: constant
    chosen = chosen_by_dens(sampler, context) + first_item
    counts = context.example_weight.numpy() * negatives.weights.numpy()[:, 0]
    gates = gates_of(sampler)

    def contrast(layers: np.ndarray, users: np.ndarray, positives: np.ndarray) -> float:
        u, p = (layers[:, nodes].transpose(1, 0, 2) for nodes in (users, positives))
        n = layers[np.arange(len(layers)), chosen]
        losses = dens_losses(gates, u, p, n, combine)
        return sampler.gamma * float(counts @ losses) / len(users)

    return contrast


Gates = dict[str, Callable[[np.ndarray], np.ndarray]]


def gates_of(sampler: Sampler) -> Gates:
    """The four affine maps of `dens`, by name."""

    def affine(gate: object) -> Callable[[np.ndarray], np.ndarray]:
        kernel, bias = gate.kernel.numpy().astype(float), gate.bias.numpy().astype(float)
        return lambda x: x @ kernel + bias

    return {name: affine(getattr(sampler, f"_{name}")) for name in
            ("item", "user", "negative", "positive")}  # fmt: skip


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mean_of_layers(layers: np.ndarray) -> np.ndarray:
    return layers.mean(axis=-2)


def side_by_side(layers: np.ndarray) -> np.ndarray:
    return layers.reshape(*layers.shape[:-2], -1)


def combination_of(model: object) -> Combination:
    return side_by_side if isinstance(model, NGCF) else mean_of_layers


def dens_losses(
    gates: Gates,
    u: np.ndarray,
    p: np.ndarray,
    n: np.ndarray,
    combine: Combination = mean_of_layers,
) -> np.ndarray:
    """The contrastive loss [batch] of users, positives, negatives [batch, layers, width]."""
    p_r = p * sigmoid(gates["item"](p) + gates["user"](u))
    n_r = n * sigmoid(gates["negative"](n) + gates["positive"](p_r))
    parts = {"p_r": p_r, "p_ir": p - p_r, "n_r": n_r, "n_ir": n - n_r}
    s = {name: (combine(u) * combine(x)).sum(axis=1) for name, x in parts.items()}
    pairs = [("p_ir", "p_r"), ("n_r", "n_ir"), ("n_r", "p_r"), ("p_ir", "n_ir")]
    return sum(softplus(s[low] - s[high]) for low, high in pairs) / 4


def chosen_by_dens(sampler: Sampler, context: Context) -> np.ndarray:
    """[batch, layers]: the allowed item whose (1 - a) n - n_r suits the user's layer best."""
    gates, pool = gates_of(sampler), sampler.pool
    items, allowed = context.pool.items.numpy()[:, :pool], context.pool.allowed.numpy()[:, :pool]
    layers, n = context.layers(), context.layers().embed(items).numpy()
    u, p = layers.users.numpy(), layers.positives.numpy()
    progress = float(context.progress)
    a = min(1.0, progress / sampler.warmup) if sampler.warmup else 1.0
    best = np.zeros(u.shape[:2], int)
    for b, layer in np.ndindex(*best.shape):
        p_r = p[b, layer] * sigmoid(gates["item"](p[b, layer]) + gates["user"](u[b, layer]))
        candidates = n[b, :, layer]
        n_r = candidates * sigmoid(gates["negative"](candidates) + gates["positive"](p_r))
        merits = ((1 - a) * candidates - n_r) @ u[b, layer]
        best[b, layer] = items[b, np.where(allowed[b], merits, -np.inf).argmax()]
    return best


def hardest_by_hand(pool: int, context: Context) -> np.ndarray:
    """[batch, layers]: the allowed item of the pool that is nearest to the user there."""
    items, allowed = context.pool.items.numpy()[:, :pool], context.pool.allowed.numpy()[:, :pool]
    layers, users = context.layers().embed(items).numpy(), context.user_embeddings.numpy()
    best = np.zeros((len(items), layers.shape[2]), int)
    queries = users.reshape(len(items), -1, layers.shape[3])  # layer by layer, or one for all
    queries = np.broadcast_to(queries, (len(items), *layers.shape[2:]))
    for b in range(len(items)):
        for layer in range(layers.shape[2]):
            scores = np.where(allowed[b], layers[b, :, layer] @ queries[b, layer], -np.inf)
            best[b, layer] = items[b, scores.argmax()]
    return best


def parameters(model: object) -> np.ndarray:
    """The tables, users above items: [num_users + num_items, width] float64."""
    return np.concatenate([model.user_table.numpy(), model.item_table.numpy()]).astype(float)


def powers_of_adjacency(train: Interactions, layers: int) -> np.ndarray:
    """The matrices A^0 to A^L [L + 1, nodes, nodes]; of 0 layers (MF) the identity alone."""
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
    return np.stack([np.linalg.matrix_power(adjacency, layer) for layer in range(layers + 1)])


def propagation_of(model: object, train: Interactions) -> Propagation:
    """Of the model's kind, with the matrices that it has."""
    if isinstance(model, NGCF):
        pairs = zip(model.sum_kernels, model.product_kernels, strict=True)
        kernels = [tuple(kernel.numpy().astype(float) for kernel in pair) for pair in pairs]
        return bi_interactions(train, kernels)
    powers = powers_of_adjacency(train, getattr(model, "num_layers", 0))
    return lambda rows0: powers @ rows0


def bi_interactions(
    train: Interactions, kernels: list[tuple[np.ndarray, np.ndarray]]
) -> Propagation:
    """NGCF's layers, each but the 0th scaled to length 1; `kernels` are each layer's two."""
    adjacency = powers_of_adjacency(train, 1)[1]

    def propagate(rows0: np.ndarray) -> np.ndarray:
        layers, own = [rows0], rows0
        for of_sum, of_product in kernels:
            received = adjacency @ own
            own = (received + own) @ of_sum + (received * own) @ of_product
            own = np.where(own > 0, own, 0.2 * own)
            layers.append(own / np.linalg.norm(own, axis=1, keepdims=True))
        return np.stack(layers)

    return propagate


def shares_of(drawn: list[Drawn], weights: np.ndarray) -> np.ndarray:
    """[batch, samplers]: the weights of those that have a negative, rescaled to sum to 1."""
    available = np.stack([answer.weights.sum(axis=1) > 0 for answer in drawn], axis=1)
    shares = available * weights[None, :]
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


# Scores of positives [batch] and of a sampler's negatives [batch, n], and what it answered, to
# what the negatives cost an example, [batch].
Cost = Callable[[np.ndarray, np.ndarray, Drawn], np.ndarray]


def bpr_cost(positive: np.ndarray, negative: np.ndarray, answer: Drawn) -> np.ndarray:
    """sum_n w_n log(1 + exp(negative_n - positive))."""
    return (answer.weights * softplus(negative - positive[:, None])).sum(axis=1)


@dataclasses.dataclass
class Step:
    """The mixture's loss as a function of layer 0's rows, worked out by hand.

    Attributes:
      propagate: the model's layers.
      combine: its representations.
      num_users: rows of users, above those of items.
      batch: as NumPy arrays.
      drawn: each sampler's negatives.
      weights: the mixture's, [samplers].
      mixing: `loss` or `instance`.
      l2: lambda.
      cost: the loss.
      cosine: whether it is of cosines instead of inner products.
    """

    propagate: Propagation
    combine: Combination
    num_users: int
    batch: dict[str, np.ndarray]
    drawn: list[Drawn]
    weights: np.ndarray
    mixing: str
    l2: float
    cost: Cost = bpr_cost
    cosine: bool = False

    @functools.cached_property
    def shares(self) -> np.ndarray:
        return shares_of(self.drawn, self.weights)

    def loss(self, rows0: np.ndarray) -> float:
        """The mean over real pairs that have a negative of loss and norms, and the samplers'
        own losses, weighted by the mixture."""
        layers = self.propagate(rows0)  # [layers, nodes, width]
        rows = self.combine(layers.transpose(1, 0, 2))
        users, positives = self.batch["user"], self.batch["positive"] + self.num_users
        u, p = rows[users], rows[positives]
        negatives = [
            rows[a.items] if a.synthesis is None else a.synthesis(layers, users, positives)
            for a in self.drawn
        ]
        pairwise = self._by_loss if self.mixing == "loss" else self._by_instance
        each = pairwise(u, p, negatives) + self.l2 * self._norms(rows0, users, positives)
        part = self.batch["weight"] * self.shares.any(axis=1) / len(users)
        own = [answer.auxiliary(layers, users, positives) for answer in self.drawn]
        return float(part @ each) + float(self.weights @ own)

    def loss_and_gradient(self, rows0: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss, and its gradient [num_users + num_items, dim] by central differences."""
        h, gradient = 1e-5, np.zeros_like(rows0)
        for place in np.ndindex(*rows0.shape):
            moved = np.zeros_like(rows0)
            moved[place] = h
            gradient[place] = (self.loss(rows0 + moved) - self.loss(rows0 - moved)) / (2 * h)
        return self.loss(rows0), gradient

    def _by_loss(self, u: np.ndarray, p: np.ndarray, negatives: list[np.ndarray]) -> np.ndarray:
        """sum_k p_k scale_k cost_k: [batch]."""
        total = np.zeros(len(u))
        for k, (answer, e) in enumerate(zip(self.drawn, negatives, strict=True)):
            costs = self.cost(self._score(u, p), self._score(u[:, None], e), answer)
            total += self.shares[:, k] * answer.scale * costs
        return total

    def _by_instance(self, u: np.ndarray, p: np.ndarray, negatives: list[np.ndarray]) -> np.ndarray:
        """The cost of the one negative sum_k p_k sum_n w_n e_n: [batch]."""
        mixed = np.zeros_like(p)
        for k, (answer, e) in enumerate(zip(self.drawn, negatives, strict=True)):
            mixed += self.shares[:, k, None] * (answer.weights[:, :, None] * e).sum(axis=1)
        one = dataclasses.replace(self.drawn[0], weights=np.ones((len(u), 1)))
        return self.cost(self._score(u, p), self._score(u, mixed)[:, None], one)

    def _score(self, u: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[..., dim] twice to [...]."""
        if self.cosine:
            u, items = (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
                        for x in (u, items))  # fmt: skip
        return (u * items).sum(axis=-1)

    def _norms(self, rows0: np.ndarray, users: np.ndarray, positives: np.ndarray) -> np.ndarray:
        """1/2 (|u|^2 + |i|^2 + sum_k p_k sum_n w_n |j_n|^2), of layer 0: [batch]."""
        squares = (rows0**2).sum(axis=1)
        total = squares[users] + squares[positives]
        for k, answer in enumerate(self.drawn):
            total += self.shares[:, k] * (answer.weights * squares[answer.items]).sum(axis=1)
        return total / 2

"""Each loss against its formula in NumPy, its slopes, and where floats end."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf.errors import InputError
from autosample_tf.losses import LOSSES, InBatchSoftmax, Loss, build_loss
from autosample_tf.losses.pairwise import bce, bpr, cosine_contrastive, hinge
from autosample_tf.losses.softmax import softmax

# Two samplers' columns: the first has one, the second three, of weights that are masked, equal
# and unequal; row 2 has nothing of the second.
OWNERS = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
WEIGHTS = np.array([[1, 1 / 3, 1 / 3, 1 / 3], [1, 0.5, 0, 0.5], [1, 0, 0, 0], [0, 0.2, 0.3, 0.5]])


def drawn_scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive scores [4], negative scores [4, 4], log probabilities [4, 4]."""
    rng = np.random.default_rng(0)
    return rng.normal(size=4), rng.normal(size=(4, 4)), np.log(rng.random((4, 4)))


def of_samplers(loss: Loss, log_q: np.ndarray | None = None) -> np.ndarray:
    positive, negative, _ = (tf.constant(x, tf.float32) for x in drawn_scores())
    log_q = None if log_q is None else tf.constant(log_q, tf.float32)
    return loss.of_samplers(positive, negative, tf.constant(WEIGHTS, tf.float32), OWNERS, log_q)


def test_bpr_is_minus_log_sigmoid_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(size=5), rng.normal(size=(5, 3))
    expected = -np.log(1 / (1 + np.exp(-(positive[:, None] - negative))))
    np.testing.assert_allclose(bpr(tf.constant(positive), tf.constant(negative)), expected)


def test_bpr_of_equal_scores_is_log_2() -> None:
    np.testing.assert_allclose(bpr(tf.zeros(1), tf.zeros([1, 1])), [[np.log(2)]], rtol=1e-6)


def test_the_slope_of_bpr_is_minus_sigmoid_of_the_negatives_lead() -> None:
    """d/dx log(1 + exp(-x)) = -1 / (1 + exp(x)), x being the difference."""
    positive = tf.constant([0.5, -2.0])
    with tf.GradientTape() as tape:
        tape.watch(positive)
        loss = bpr(positive, tf.constant([[1.0], [1.0]]))
    expected = -1 / (1 + np.exp([-0.5, -3.0]))
    np.testing.assert_allclose(tape.gradient(loss, positive), expected, rtol=1e-6)


@pytest.mark.parametrize("gap", [1e2, 1e6, 1e30])
def test_extreme_scores_give_finite_losses_and_gradients(gap: float) -> None:
    """Far apart the loss is the lead of the negative, or 0."""
    positive = tf.constant([-gap, gap])
    negative = tf.constant([[gap], [-gap]])
    with tf.GradientTape() as tape:
        tape.watch([positive, negative])
        loss = bpr(positive, negative)
    np.testing.assert_allclose(loss, [[2 * np.float32(gap)], [0]], rtol=1e-6, atol=1e-30)
    gradients = tape.gradient(loss, [positive, negative])
    np.testing.assert_allclose(gradients[0], [-1, 0], atol=1e-6)
    np.testing.assert_allclose(gradients[1], [[1], [0]], atol=1e-6)


def test_hinge_is_what_a_positive_lacks_of_its_margin() -> None:
    found = hinge(tf.constant([2.0]), tf.constant([[0.5, 1.75, 3.0]]), 1.0)
    np.testing.assert_allclose(found, [[0.0, 0.75, 2.0]])


def test_bce_is_minus_the_log_of_both_probabilities() -> None:
    positive, negative, _ = drawn_scores()
    like, dislike = (1 / (1 + np.exp(-x)) for x in (positive, negative))
    expected = -np.log(like)[:, None] - np.log(1 - dislike)
    np.testing.assert_allclose(bce(tf.constant(positive), tf.constant(negative)), expected)


def test_cosine_contrastive_lets_negatives_within_the_margin_be() -> None:
    found = cosine_contrastive(tf.constant([0.25]), tf.constant([[-1.0, 0.5, 0.875]]), 0.5, 4.0)
    np.testing.assert_allclose(found, [[0.75, 0.75, 0.75 + 4 * 0.375]])


def test_softmax_is_minus_the_log_of_the_positives_share() -> None:
    positive, negative, _ = drawn_scores()
    expected = -np.log(np.exp(positive) / (np.exp(positive) + np.exp(negative).sum(axis=1)))
    np.testing.assert_allclose(softmax(tf.constant(positive), tf.constant(negative)), expected)


@pytest.mark.parametrize("spec", ["bpr", "bpr:temperature=0.25", "hinge:margin=0.5", "bce",
                                  "ccl:margin=0.2,negative_weight=3.0"])  # fmt: skip
def test_a_pairwise_loss_of_a_sampler_is_the_weighted_mean_of_its_pairs(spec: str) -> None:
    positive, negative, _ = drawn_scores()
    by_hand = {
        "bpr": lambda p, n: np.logaddexp(0, n - p),
        "bpr:temperature=0.25": lambda p, n: np.logaddexp(0, (n - p) / 0.25),
        "hinge:margin=0.5": lambda p, n: np.maximum(0, 0.5 - p + n),
        "bce": lambda p, n: np.logaddexp(0, -p) + np.logaddexp(0, n),
        "ccl:margin=0.2,negative_weight=3.0": lambda p, n: 1 - p + 3 * np.maximum(0, n - 0.2),
    }[spec]
    expected = np.zeros((4, 2))
    for row, column in np.ndindex(4, 4):
        sampler = OWNERS[column].argmax()
        pair = by_hand(positive[row], negative[row, column])
        expected[row, sampler] += WEIGHTS[row, column] * pair
    np.testing.assert_allclose(of_samplers(build_loss(spec)), expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("log_q", [False, True])
def test_sampled_softmax_has_a_sum_for_each_sampler(temperature: float, log_q: bool) -> None:
    """Of m unmasked negatives of weights w each counts m w times, or w / q of known q."""
    positive, negative, logarithm = drawn_scores()
    expected = np.zeros((4, 2))
    for row, sampler in np.ndindex(4, 2):
        own = np.flatnonzero(OWNERS[:, sampler] * WEIGHTS[row])
        times = WEIGHTS[row, own] * (np.exp(-logarithm[row, own]) if log_q else len(own))
        like = np.exp(positive[row] / temperature)
        others = (times * np.exp(negative[row, own] / temperature)).sum()
        expected[row, sampler] = -np.log(like / (like + others))
    loss = build_loss(f"sampled-softmax:temperature={temperature},log_q={log_q}")
    np.testing.assert_allclose(of_samplers(loss, logarithm), expected, rtol=1e-5, atol=1e-6)


def test_of_one_negative_sampled_softmax_is_bpr() -> None:
    found = [of_samplers(build_loss(name))[:, 0] for name in ("sampled-softmax", "bpr")]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_what_log_q_corrects_for_is_the_sum_over_all_items() -> None:
    """The mean of the estimated sums over draws from q is the sum over the catalogue."""
    rng = np.random.default_rng(0)
    scores, q = rng.normal(size=20), rng.dirichlet(np.ones(20))
    items = rng.choice(20, p=q, size=(4000, 8))
    loss = build_loss("sampled-softmax:log_q=True")
    losses = loss.of_samplers(
        tf.zeros(4000),
        tf.constant(scores[items], tf.float32),
        tf.fill([4000, 8], 1 / 8),
        np.ones((8, 1), np.float32),
        tf.constant(np.log(q)[items], tf.float32),
    )
    sums = np.exp(losses.numpy()) - 1  # log(1 + sum) at a positive score of 0
    error = sums.std() / np.sqrt(len(sums))
    assert abs(sums.mean() - np.exp(scores).sum()) < 5 * error


def test_in_batch_softmax_is_the_cross_entropy_among_the_batchs_positives() -> None:
    """Rows of padding and of the same positive are no negatives of others."""
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    positives, real = np.array([5, 7, 5, 8]), np.array([True, True, True, False])
    logits = (
        (users / np.linalg.norm(users, axis=1, keepdims=True))
        @ (items / np.linalg.norm(items, axis=1, keepdims=True)).T
        / 0.5
    )
    among = (real & (positives != positives[:, None])) | np.eye(4, dtype=bool)
    expected = [
        np.log(np.exp(logits[row][among[row]]).sum()) - logits[row, row] for row in range(4)
    ]
    found = InBatchSoftmax(temperature=0.5, cosine=True).of_batch(
        tf.constant(users, tf.float32),
        tf.constant(items, tf.float32),
        tf.constant(positives, tf.int32),
        tf.constant(real),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_finite_values_and_gradients_at_extreme_scores(name: str) -> None:
    loss = build_loss(name)
    for gap in (1e2, 1e6, 1e30):
        positive = tf.constant([-gap, gap, 0.0])
        negative = tf.constant([[gap, gap], [-gap, gap], [gap, -gap]])
        weights = tf.constant([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]])
        with tf.GradientTape() as tape:
            tape.watch([positive, negative])
            found = loss.of_samplers(positive, negative, weights, np.ones((2, 1), np.float32))
        assert np.isfinite(found).all()
        assert found[2] == 0  # it has no negative
        for gradient in tape.gradient(found, [positive, negative]):
            assert np.isfinite(gradient).all()
            assert (gradient.numpy()[2] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_masked_negative_has_no_gradient(name: str) -> None:
    positive, negative, _ = (tf.constant(x, tf.float32) for x in drawn_scores())
    with tf.GradientTape() as tape:
        tape.watch(negative)
        weights = tf.constant(WEIGHTS, tf.float32)
        found = build_loss(name).of_samplers(positive, negative, weights, OWNERS)
    gradient = tape.gradient(found, negative).numpy()
    assert (gradient[WEIGHTS == 0] == 0).all()
    assert (gradient >= 0).all()  # a higher negative never costs less
    assert gradient.max() > 0


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("warp", r"Unknown loss 'warp'\. Known: bce, bpr, ccl, hinge, in-batch-softmax"),
        ("bpr:margin=1", r"Unknown option of loss 'bpr' 'margin'\. Known: cosine, temperature"),
        ("bpr:temperature=0", r"bpr's temperature above 0; received 0\.0"),
        ("sampled-softmax:temperature=nan", "temperature above 0"),
        ("bce:temperature=low", "temperature of loss 'bce:temperature=low' as float"),
        ("bpr:cosine=yes", "cosine of loss 'bpr:cosine=yes' as bool"),
        ("hinge:margin=-1", "margin above 0"),
        ("ccl:margin=2", r"margin in \[-1, 1\]"),
        ("ccl:negative_weight=-1", "negative_weight at least 0"),
        ("ccl:cosine=False", "Unknown option of loss 'ccl' 'cosine'"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(spec: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build_loss(spec)

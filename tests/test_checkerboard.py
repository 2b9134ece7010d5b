"""A world with a known answer: whoever is withheld an item must be offered it first.

User u likes item i if and only if (u + i) % 2 == 0, and one liked item of each user is
withheld from training. All other unseen items are disliked, so in each user's ranking of
the unseen the withheld item has to come first.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from worlds import from_dense, kind_or_specs, small_specs

from autosample_tf.autosample import AutoSample
from autosample_tf.evaluation import Ranker
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF, MODELS, Recommender, build_model
from autosample_tf.pipeline import training_batches

ALL = small_specs(pool=32)
ONE_EACH = [[spec] for spec in ALL]
# Of LightGCN all samplers at once are fast, each alone slow.
CASES = [
    *(("mf", samplers) for samplers in [*ONE_EACH, ALL]),
    ("lightgcn", ALL),
    *(pytest.param("lightgcn", samplers, marks=pytest.mark.slow) for samplers in ONE_EACH),
]


def checkerboard(num_users: int, num_items: int) -> tuple[Interactions, np.ndarray]:
    """The train pairs, and the item withheld from each user [num_users], all different."""
    users, items = np.indices((num_users, num_items))
    liked = (users + items) % 2 == 0
    everybody = np.arange(num_users)
    withheld = everybody % 2 + 2 * (7 * (everybody // 2) % (num_items // 2))
    assert liked[everybody, withheld].all()
    assert len(set(withheld)) == num_users
    liked[everybody, withheld] = False
    return from_dense(liked), withheld


def train_on(
    model: Recommender, train: Interactions, samplers: list[str], steps: int
) -> AutoSample:
    users, items = np.indices((train.num_users, train.num_items))
    autosample = AutoSample(
        model,
        train,
        samplers=samplers,
        objective="uniform",
        given=from_dense((users + items) % 2 == 1),  # what is disliked, told by the data
        l2=0.02,
    )
    adam = tf.keras.optimizers.Adam(0.02, jit_compile=False)
    autosample.compile(adam, steps_per_execution=50)
    autosample.fit(training_batches(train, 256, seed=0), steps_per_epoch=steps, verbose=0)
    return autosample


def ranks_of(withheld: np.ndarray, model: Recommender, train: Interactions) -> np.ndarray:
    """[num_users]: the rank, from 1, of each user's withheld item among the unseen."""
    unseen = train.num_items - train.degrees.max()
    items = Ranker(model, train, int(unseen)).rank(np.arange(train.num_users)).items
    rows, columns = np.nonzero(items == withheld[:, None])
    assert len(rows) == train.num_users
    return columns + 1


@pytest.mark.parametrize("kind", MODELS)
def test_before_training_the_withheld_item_seldom_comes_first(kind: str) -> None:
    train, withheld = checkerboard(40, 200)
    model = build_model(kind, train, dim=16, layers=2)
    assert (ranks_of(withheld, model, train) == 1).mean() < 0.5


@pytest.mark.parametrize(("kind", "samplers"), CASES, ids=kind_or_specs)
def test_the_withheld_item_comes_first_for_everybody(kind: str, samplers: list[str]) -> None:
    """With 200 items a pool of 32 has the withheld one in 1 of 7 draws: too seldom to harm."""
    train, withheld = checkerboard(40, 200)
    model = build_model(kind, train, dim=16, layers=2)
    train_on(model, train, samplers, steps=120)
    np.testing.assert_array_equal(ranks_of(withheld, model, train), np.ones(40))


@pytest.mark.slow
def test_the_withheld_item_comes_first_under_ngcf_too() -> None:
    """Of its layers and dropout, whatever the sampler."""
    train, withheld = checkerboard(40, 200)
    model = build_model("ngcf", train, dim=16, layers=2)
    train_on(model, train, small_specs(pool=32), steps=120)
    np.testing.assert_array_equal(ranks_of(withheld, model, train), np.ones(40))


def leads_of(withheld: np.ndarray, model: MF, train: Interactions) -> np.ndarray:
    """[num_users]: how far a withheld item is ahead of the best disliked one, in standard
    deviations of the user's scores."""
    scores = model.score_all(model.user_table, model.item_table).numpy()
    users, items = np.indices(scores.shape)
    best_disliked = np.where((users + items) % 2 == 1, scores, -np.inf).max(axis=1)
    return (scores[np.arange(len(withheld)), withheld] - best_disliked) / scores.std(axis=1)


@pytest.mark.slow
def test_on_a_small_board_a_hard_sampler_punishes_the_withheld_item() -> None:
    """Why hard samplers have to fail with 20 items, and it is not a fault of theirs.

    A pool of 128 draws from 20 items holds every unseen one. As soon as the withheld item
    leads the unseen, as it should, it is the pool's hardest, hence the negative in each of
    its user's pairs, and is pushed down until disliked items are level with it: a false
    negative. Uniform draws hit it 1 time in 11 and leave it where similar users put it.
    """
    train, withheld = checkerboard(20, 20)
    punished = []
    for seed in range(4):  # level with the disliked items, it is first by chance for some
        firsts, leads = {}, {}
        for spec in ("rns", "dns:pool=128"):
            model = MF(20, 20, dim=16, seed=seed)
            train_on(model, train, [spec], steps=200)
            firsts[spec] = int((ranks_of(withheld, model, train) == 1).sum())
            leads[spec] = leads_of(withheld, model, train)
        assert firsts["rns"] == 20
        assert leads["rns"].min() > 0.5
        assert leads["dns:pool=128"].max() < 0.2
        punished.append(firsts["dns:pool=128"])
    assert np.mean(punished) <= 16


def test_ranks_that_liked_items_hold_leave_a_factor_sampler_without_negatives() -> None:
    """Why `aobpr` runs with a mean rank of 32 above: of 5 it starves, and so should it.

    Half of the 200 items are liked by a user, and once a factor tells the halves apart they
    hold its first 100 ranks. A try is disliked with the probability of a later rank,
    q = (x^100 - x^200) / (1 - x^200), x = exp(-1 / mean_rank), and 8 tries find a negative
    with 1 - (1 - q)^8: 0.29 of 32, 2e-8 of 5. What is found beyond that is the withheld item.
    """
    train, _ = checkerboard(40, 200)
    for mean_rank in (5.0, 32.0):
        x = np.exp(-1 / mean_rank)
        expected = 1 - (1 - (x**100 - x**200) / (1 - x**200)) ** 8
        autosample = train_on(MF(40, 200, dim=16), train, [f"aobpr:mean_rank={mean_rank}"], 120)
        batches = training_batches(train, 256, seed=1).take(8)
        found = [autosample.sample(batch).available.numpy().mean() for batch in batches]
        assert np.mean(found) == pytest.approx(expected, abs=0.03)

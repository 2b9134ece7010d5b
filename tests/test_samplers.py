"""The contract that every registered sampler keeps, and the specs that name them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from worlds import (
    NEWCOMER,
    NUM_ITEMS,
    NUM_USERS,
    WHOLE_CATALOGUE,
    context_of,
    from_dense,
    small_specs,
    to_dense,
    toy_feedback,
    toy_model,
    toy_train,
)

from autosample_tf.errors import InputError
from autosample_tf.losses.pairwise import BPR
from autosample_tf.ops.membership import PairSet
from autosample_tf.ops.randomness import Draws
from autosample_tf.samplers import SAMPLERS, build_sampler, build_samplers
from autosample_tf.samplers.contract import Context, Feedback, Negatives, Pool, Sampler
from autosample_tf.samplers.selection import best_of, pick
from autosample_tf.step.pool import Step, make_context

# With each registered sampler also what its other options reach.
SPECS = [*small_specs(), "rns:exact=True", "pns:alpha=0.0", "dns:pool=1", "dns-mn:pool=6,top=1",
         "softmax-dns:pool=6,temperature=0.01", "softmax-dns:pool=6,relative=True",
         "curriculum:pool=6,rising=True", "warp:pool=6,k=2,positives=4"]  # fmt: skip
WIDTH = 32  # a pool that `rns` draws from

EVERYBODY = np.arange(NUM_USERS)


def built(spec: str) -> Sampler:
    sampler = build_sampler(spec)
    sampler.build(toy_feedback(), 4)
    return sampler


def drawing(spec: str, rows: int = NUM_USERS, seed: int = 0) -> Callable[..., dict[str, Any]]:
    """users, positions -> the fields of the sampler's answer that are tensors."""
    sampler, model, pairs = built(spec), toy_model("mf"), PairSet(toy_train())
    anything = np.random.default_rng(3).integers(0, NUM_ITEMS, rows).astype(np.int32)

    def draw(users: tf.Tensor, positions: tf.Tensor) -> dict[str, Any]:
        positives = tf.gather(anything, positions % rows)
        batch = {"user": users, "positive": positives, "weight": tf.ones(users.shape)}
        step = Step(pairs, Draws(seed, positions, rows), tf.constant(0.25), BPR())
        context, _ = make_context(model, model.propagate(), batch, step, WIDTH)
        answer = sampler.sample(context)
        fields = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer)}
        return {name: value for name, value in fields.items() if value is not None}

    return draw


def step_of(rows: int = NUM_USERS, step: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    users = tf.range(rows) % NUM_USERS
    return users, tf.range(step * rows, (step + 1) * rows, dtype=tf.int64)


def assert_same(one: dict[str, Any], other: dict[str, Any], rtol: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, atol=rtol, err_msg=name)


def test_the_maximum_of_nothing_finite_is_no_negative() -> None:
    """Whatever a sampler makes of scores that are no numbers, a train positive has no weight."""
    allowed = tf.constant([[False, True], [True, True]])
    pool = Pool(tf.constant([[3, 4], [3, 4]]), allowed, tf.zeros([2, 2]))
    answer = best_of(pool, tf.fill([2, 2], np.nan))
    chosen = pick(allowed, answer.columns[:, 0]).numpy()
    np.testing.assert_array_equal(answer.weights > 0, chosen)


@pytest.mark.parametrize("spec", SPECS)
class TestContract:
    def test_shapes_are_static(self, spec: str) -> None:
        rows = 5
        answer = tf.function(drawing(spec, rows)).get_concrete_function(*step_of(rows))
        shapes = {name: value.shape for name, value in answer.structured_outputs.items()}
        n = shapes["items"][1]
        assert n is not None
        expected = {"items": [rows, n], "weights": [rows, n], "log_q": [rows, n],
                    "columns": [rows, n],
                    "embeddings": [rows, n, 4], "scale": [rows], "auxiliary_loss": []}  # fmt: skip
        assert {name: shape.as_list() for name, shape in shapes.items()} == {
            name: expected[name] for name in shapes
        }

    def test_types_are_those_of_the_contract(self, spec: str) -> None:
        answer = drawing(spec)(*step_of())
        assert answer.pop("items").dtype == tf.int32
        assert answer.pop("columns", tf.constant(0)).dtype == tf.int32
        assert {value.dtype for value in answer.values()} == {tf.float32}

    def test_columns_are_where_the_items_stand_in_the_pool(self, spec: str) -> None:
        context = context_of(EVERYBODY, toy_train(), width=WIDTH, model=toy_model("mf"))
        answer = built(spec).sample(context)
        if answer.columns is not None:
            there = np.take_along_axis(context.pool.items.numpy(), answer.columns.numpy(), axis=1)
            np.testing.assert_array_equal(there, answer.items)

    def test_never_a_train_positive(self, spec: str) -> None:
        """Every (user, item) that 3,000 draws a user can reach, weights 0 or summing to 1."""
        users, positions = step_of(3000 * NUM_USERS)
        answer = drawing(spec, len(users))(users, positions)
        items, weights = answer["items"].numpy(), answer["weights"].numpy()
        assert ((items >= 0) & (items < NUM_ITEMS)).all()
        assert (weights >= 0).all()
        sums = weights.sum(axis=1)
        assert np.isin(np.round(sums, 6), [0.0, 1.0]).all()
        positive = to_dense(toy_train())[users.numpy()[:, None], items]
        assert not positive[weights > 0].any()

    def test_the_whole_catalogue_leaves_no_negative(self, spec: str) -> None:
        users, positions = step_of(500 * NUM_USERS)
        weights = drawing(spec, len(users))(users, positions)["weights"].numpy()
        assert (weights[users == WHOLE_CATALOGUE] == 0).all()
        newcomers = weights[users == NEWCOMER].sum(axis=1)
        if spec.startswith("warp"):  # an example without a violator has no negative
            newcomers = newcomers[newcomers > 0]
        np.testing.assert_allclose(newcomers, 1.0, atol=1e-6)

    def test_what_is_masked_is_finite(self, spec: str) -> None:
        for value in drawing(spec)(*step_of()).values():
            assert np.isfinite(value.numpy()).all()

    def test_equal_seeds_and_steps_draw_the_same(self, spec: str) -> None:
        first, second = drawing(spec), drawing(spec)
        for step in (0, 3):
            assert_same(first(*step_of(step=step)), second(*step_of(step=step)))

    def test_other_seeds_and_other_steps_draw_otherwise(self, spec: str) -> None:
        if spec.startswith("srns"):  # what it draws is the memory, in `update`: `test_caches`
            pytest.skip("draws in `update`")
        rows = 70
        here = drawing(spec, rows)(*step_of(rows))["items"].numpy()
        elsewhere = drawing(spec, rows, seed=1)(*step_of(rows))["items"].numpy()
        later = drawing(spec, rows)(*step_of(rows, step=1))["items"].numpy()
        assert (here != elsewhere).any()
        assert (here != later).any()

    def test_a_graph_draws_what_python_draws(self, spec: str) -> None:
        draw = drawing(spec)
        assert_same(tf.function(draw)(*step_of()), draw(*step_of()), rtol=1e-6)

    def test_xla_draws_what_python_draws(self, spec: str) -> None:
        draw = drawing(spec, 70)
        compiled = tf.function(draw, jit_compile=True)
        assert_same(compiled(*step_of(70)), draw(*step_of(70)), rtol=1e-5)

    def test_no_gradient_runs_through_the_choice(self, spec: str) -> None:
        context = context_of(EVERYBODY, toy_train(), width=WIDTH, model=toy_model("mf"))
        scores, positive_scores = context.pool.scores, context.positive_scores
        with tf.GradientTape() as tape:
            tape.watch([scores, positive_scores])
            pool = dataclasses.replace(context.pool, scores=tf.identity(scores))
            answer = built(spec).sample(dataclasses.replace(
                context, pool=pool, positive_scores=tf.identity(positive_scores)))  # fmt: skip
            embeddings = answer.embeddings
            if embeddings is None:
                embeddings = context.embed(answer.items)
            used = tf.reduce_sum(embeddings * answer.weights[:, :, None])
        assert tape.gradient(used, [scores, positive_scores]) == [None, None]

    def test_the_spec_builds_the_sampler_again(self, spec: str) -> None:
        sampler = build_sampler(spec)
        again = build_sampler(sampler.spec)
        assert type(again) is type(sampler)
        assert again.options() == sampler.options()
        assert again.spec == sampler.spec


def test_the_pools_scores_have_no_gradient() -> None:
    model = toy_model("mf")
    with tf.GradientTape() as tape:
        context = context_of(EVERYBODY, toy_train(), width=WIDTH, model=model)
        scores = tf.reduce_sum(context.positive_scores)
        scores += tf.reduce_sum(tf.where(context.pool.allowed, context.pool.scores, 0.0))
    assert tape.gradient(scores, model.trainable_variables) == [None, None]


def test_the_pool_is_checked_and_scored() -> None:
    model, train = toy_model("mf"), toy_train()
    pool = context_of(EVERYBODY, train, width=50, model=model).pool
    items = pool.items.numpy()
    allowed = ~to_dense(train)[EVERYBODY[:, None], items]
    users, rows = model.user_table.numpy(), model.item_table.numpy()[items]
    scores = np.einsum("bd,bnd->bn", users, rows)
    np.testing.assert_array_equal(pool.allowed, allowed)
    np.testing.assert_allclose(pool.scores.numpy()[allowed], scores[allowed], rtol=1e-5)
    assert (pool.scores.numpy()[~allowed] == np.finfo(np.float32).min).all()


def test_the_first_columns_of_a_pool_are_a_pool() -> None:
    pool = context_of(EVERYBODY, toy_train(), width=10).pool
    narrow = pool.first(4)
    for name in ("items", "allowed", "scores"):
        whole, part = getattr(pool, name).numpy(), getattr(narrow, name).numpy()
        np.testing.assert_array_equal(part, whole[:, :4])


def test_every_card_names_its_sampler() -> None:
    for name, own in SAMPLERS.items():
        assert own.card.name == name
        assert build_sampler(name).spec.partition(":")[0] == name
        assert own.card.formula
        assert own.card.cost
        assert own.card.source
        assert set(own.card.defaults) == set(build_sampler(name).options())


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("rns", "rns"),
        ("pns", "pns:alpha=0.75"),
        ("pns:alpha=1", "pns:alpha=1.0"),
        ("dns", "dns:pool=32"),
        ("dns-mn:top=2", "dns-mn:pool=32,top=2"),
        ("dns-mn:top=2,pool=4", "dns-mn:pool=4,top=2"),
        ("softmax-dns:temperature=1e-1", "softmax-dns:pool=32,temperature=0.1"),
    ],
)
def test_the_canonical_spec_spells_out_every_option_in_order(spec: str, canonical: str) -> None:
    assert build_sampler(spec).spec == canonical


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dnss", r"Unknown sampler 'dnss'\. Known: .*dns, dns-mn, .*softmax-dns.*mean 'dns'"),
        ("", r"Unknown sampler ''"),
        ("dns:depth=2", r"Unknown option of sampler 'dns' 'depth'\. Known: pool"),
        ("rns:pool=2", r"Unknown option of sampler 'rns' 'pool'"),
        ("dns:pool=many", r"pool of sampler 'dns:pool=many' as int; received 'many'"),
        ("dns:pool=1.5", r"as int; received '1\.5'"),
        ("dns:pool", r"as int; received ''"),
        ("dns:pool=0", r"dns's pool of at least 1; received 0"),
        ("mixgcf:pool=0", r"mixgcf's pool of at least 1; received 0"),
        ("dns-mn:pool=4", r"top in \[1, 4\]; received 5"),
        ("dns-mn:top=0", r"top in \[1, 32\]; received 0"),
        ("softmax-dns:temperature=0", r"temperature above 0; received 0"),
        ("softmax-dns:temperature=nan", r"temperature above 0; received nan"),
        ("softmax-dns:pool=-1", r"pool of at least 1; received -1"),
        ("pns:alpha=-0.5", r"alpha of at least 0; received -0\.5"),
        ("pns:alpha=nan", r"alpha of at least 0; received nan"),
        ("pns:alpha=inf", r"alpha finite, and 0 or within 1e-37 and 1e38; received inf"),
        ("no.such.module:Class", r"no\.such\.module:Class"),
        ("os.path:NoClass", r"os\.path:NoClass"),
        ("collections.abc:Mapping", r"subclass of .*Sampler; received collections\.abc:Mapping"),
    ],
)
def test_a_wrong_spec_says_what_would_be_right(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_sampler(spec)


@pytest.mark.parametrize("twice", [["dns", "dns:pool=32"], ["rns", "pns", "rns"]])
def test_the_same_sampler_twice_is_refused(twice: list[str]) -> None:
    with pytest.raises(InputError, match="twice"):
        build_samplers(twice)


def test_the_same_sampler_with_other_options_is_another() -> None:
    samplers = build_samplers(["dns:pool=8", "dns:pool=32", build_sampler("dns:pool=4")])
    assert [sampler.pool for sampler in samplers] == [8, 32, 4]


def test_no_sampler_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="at least one sampler"):
        build_samplers([])


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module `of_mine.samplers` with a sampler of one's own, on the Python path."""
    (tmp_path / "of_mine").mkdir()
    (tmp_path / "of_mine" / "__init__.py").touch()
    (tmp_path / "of_mine" / "samplers.py").write_text(
        "from autosample_tf.samplers import Sampler\n"
        "class Deep(Sampler):\n"
        "    def __init__(self, depth: int = 1, share: float = 0.5):\n"
        "        super().__init__()\n"
        "        self.depth, self.share = depth, share\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "of_mine.samplers"
    for name in ("of_mine", "of_mine.samplers"):
        sys.modules.pop(name, None)


def test_a_class_of_ones_own_is_named_by_its_module(own_module: str) -> None:
    sampler = build_sampler(f"{own_module}:Deep:depth=2")
    assert sampler.options() == {"depth": 2, "share": 0.5}
    assert sampler.spec == f"{own_module}:Deep:depth=2,share=0.5"
    assert build_sampler(sampler.spec).spec == sampler.spec


def test_an_unknown_option_of_ones_own_class_lists_its_options(own_module: str) -> None:
    with pytest.raises(InputError, match=rf"{own_module}:Deep' 'width'\. Known: depth, share"):
        build_sampler(f"{own_module}:Deep:width=2")


@pytest.mark.parametrize("spec", [":x", ".mine:Mine", "mine.samplers:", "no_such.module:Mine"])
def test_what_names_no_class_is_told(spec: str) -> None:
    with pytest.raises(InputError, match="Expected a sampler class as package.module:Class"):
        build_sampler(spec)


@pytest.mark.parametrize("given", [None, from_dense(np.zeros((NUM_USERS, NUM_ITEMS), bool))])
def test_given_negatives_that_are_not_there_are_asked_for(given: Any) -> None:
    sampler, feedback = build_sampler("given"), Feedback(toy_train(), given)
    for ask in (lambda: sampler.check(feedback), lambda: sampler.build(feedback, 4)):
        with pytest.raises(InputError, match=r"received none\. Name .* --label-column, .* --posi"):
            ask()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_others_need_none(name: str) -> None:
    if name != "given":
        build_sampler(name).check(Feedback(toy_train()))


def test_samples_are_rows_of_the_users_asked() -> None:
    """A sampler answers for the batch's users, not for rows 0, 1, … of the tables."""
    liked = np.zeros((3, 4), bool)
    liked[0, 1:], liked[2, :3] = True, True  # user 0 lacks item 0, user 2 item 3
    train = from_dense(liked)
    sampler = build_sampler("rns")
    sampler.build(Feedback(train), 4)
    answer: Negatives = sampler.sample(_repeated(train, [2, 0, 2, 0] * 50))
    has = answer.weights.numpy()[:, 0] > 0
    np.testing.assert_array_equal(answer.items.numpy()[has, 0], np.array([3, 0] * 100)[has])
    assert has.mean() > 0.8  # 1 - (3/4)^8 = .90


def _repeated(train: Any, users: list[int]) -> Context:
    return context_of(np.array(users), train, width=WIDTH)

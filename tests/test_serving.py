"""What the exported graph answers, asked through TensorFlow's C API."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from autosample_tf import evaluation, export, recommend
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.representations import Representations
from autosample_tf.serving import graph as serving
from autosample_tf.serving.verification import Request, ask
from autosample_tf.training import load_run

LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(scope="module")
def mf(tiny_run, tmp_path_factory):
    """The folder of an exported MF, k 10, with 80 items and ids that are not ASCII."""
    return export(tiny_run, output=tmp_path_factory.mktemp("exported"), top_k=10)


@pytest.fixture(scope="module")
def lightgcn(peculiar_run, tmp_path_factory):
    """The folder of an exported LightGCN with users that are hard to serve, k 10."""
    return export(peculiar_run, output=tmp_path_factory.mktemp("exported"), top_k=10)


@pytest.fixture(scope="module")
def tiny(tiny_run):
    return load_run(tiny_run)


def answer(folder, signature="serving_default", **inputs):
    """A signature's answer, as nested lists."""
    (found,) = ask(folder, [Request(signature, inputs)])
    return found


def serve(folder, users):
    """The default signature's answer as lists of text, and arrays."""
    found = answer(folder, user_id=users)
    return found["item_id"], np.array(found["score"], np.float32), np.array(found["known"])


def refused(folder, signature="serving_default", **inputs):
    """What the loader says of a request that it does not take."""
    return answer(folder, signature, **inputs)["error"]


def saved(server, folder):
    tf.saved_model.save(server, str(folder), signatures=server.signatures)
    return folder


class TestSignature:
    @pytest.mark.parametrize("exported", ["mf", "lightgcn"])
    def test_names_types_and_shapes(self, exported, request):
        folder = request.getfixturevalue(exported)
        loaded = tf.saved_model.load(str(folder)).signatures
        assert set(loaded) == {
            "serving_default", "recommend", "similar_items", "score", "embed_user", "embed_item"
        }  # fmt: skip
        signature = loaded["serving_default"]
        assert signature.structured_input_signature[1] == {
            "user_id": tf.TensorSpec([None], tf.string, "user_id")
        }
        assert signature.structured_outputs == {
            "item_id": tf.TensorSpec([None, 10], tf.string, "item_id"),
            "known": tf.TensorSpec([None], tf.bool, "known"),
            "score": tf.TensorSpec([None, 10], tf.float32, "score"),
        }

    @pytest.mark.parametrize("batch", [0, 1, 127, 128, 129, 256, 1000])
    def test_any_batch(self, batch, mf):
        users = [f"é{row % 61}⊗" for row in range(batch)]  # the 61st is unknown
        items, scores, known = serve(mf, users)
        assert (len(items), known.shape) == (batch, (batch,))
        alone, scores_alone, known_alone = serve(mf, users[:61] or users)
        assert items == [alone[row % 61] for row in range(batch)]
        if batch:
            np.testing.assert_allclose(scores, np.resize(scores_alone, (batch, 10)), rtol=1e-5)
        np.testing.assert_array_equal(known, np.resize(known_alone, batch))


class TestAnswers:
    @pytest.mark.parametrize("run", ["tiny_run", "peculiar_run"])
    def test_are_what_recommend_writes(self, run, request, tmp_path):
        run = request.getfixturevalue(run)
        lines = recommend(run, top_k=7).lines
        items, scores, known = serve(
            export(run, output=tmp_path, top_k=7), [line["user"] for line in lines]
        )
        assert known.all()
        for line, own_items, own_scores in zip(lines, items, scores, strict=True):
            padding = 7 - len(line["items"])
            assert own_items == line["items"] + [""] * padding
            np.testing.assert_allclose(
                own_scores, line["scores"] + [LOWEST] * padding, rtol=1e-5, atol=1e-6
            )

    def test_are_the_best_of_all_unseen_items(self, mf, tiny_run):
        trained = load_run(tiny_run)
        data, tables = trained.data, trained.model.propagate()
        scores = tables.users.numpy() @ tables.items.numpy().T
        scores[trained.seen.users, trained.seen.items] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        items, own_scores, _ = serve(mf, data.user_ids.tolist())
        assert items == data.item_ids[best].tolist()
        np.testing.assert_allclose(own_scores, np.take_along_axis(scores, best, axis=1), rtol=1e-5)

    def test_unknown_users_get_the_popular_items(self, mf, tiny_run):
        trained = load_run(tiny_run)
        order = np.argsort(-trained.seen.popularity, kind="stable")[:10]
        items, scores, known = serve(mf, ["nobody", "é3⊗", "", "é3"])
        assert known.tolist() == [False, True, False, False]
        for row in (0, 2, 3):
            assert items[row] == trained.data.item_ids[order].tolist()
            assert scores[row].tolist() == trained.seen.popularity[order].tolist()
        assert items[1] != items[0]

    def test_known_users_with_nothing_seen_get_them_too(self, lightgcn):
        items, scores, known = serve(lightgcn, ["7", "nobody"])
        assert known.tolist() == [True, False]
        assert items[0] == items[1]
        np.testing.assert_array_equal(scores[0], scores[1])

    def test_rows_with_too_few_items_are_padded(self, lightgcn):
        items, scores, known = serve(lightgcn, ["17", "27"])  # all seen, all but three
        assert known.all()
        assert items[0] == [""] * 10
        assert scores[0].tolist() == [LOWEST] * 10
        assert set(items[1][:3]) == {"86", "89", "92"}
        assert items[1][3:] == [""] * 7
        assert (scores[1][:3] > LOWEST).all()
        assert scores[1][3:].tolist() == [LOWEST] * 7

    def test_k_is_cut_to_the_catalogue(self, peculiar_run, tmp_path, caplog):
        folder = export(peculiar_run, output=tmp_path, top_k=31)
        assert "cut from 31 to the 30 items" in caplog.text
        items, _, _ = serve(folder, ["nobody", "27"])
        assert sorted(items[0], key=int) == [str(3 * i + 5) for i in range(30)]
        assert items[1][3:] == [""] * 27

    def test_a_user_of_whom_nothing_was_learned(self, tmp_path):
        """Ranked as by `Ranker`, beside one of whom something was, or alone."""
        pairs = np.array([(0, 1), (0, 2), (1, 1), (2, 1), (2, 3)])
        seen, learned = (
            Interactions.from_pairs(*part.T, num_users=3, num_items=5)
            for part in (pairs, pairs[:3])
        )
        model, ids = MF(3, 5, dim=2, init_scale=1.0), np.array(list("abcde"))
        saved(serving.Server(Representations.of(model), seen, ids[:3], ids, 4, learned), tmp_path)
        items, scores, known = serve(tmp_path, ["a", "c"])
        own = evaluation.Ranker(model, seen, 4, learned).rank(np.array([0, 2]))
        assert items == [["abcde"[i] if i >= 0 else "" for i in row] for row in own.items]
        assert items[1] == ["c", "a", "e", ""]
        np.testing.assert_allclose(scores, own.scores, rtol=1e-6)
        assert known.all()
        assert serve(tmp_path, ["c"])[0] == items[1:]

    def test_a_catalogue_of_many_blocks(self, tmp_path):
        """More items than `exact_top_k` sorts whole; more users than a block, some alike."""
        num_users, num_items = 300, 9000
        rng = np.random.default_rng(0)
        seen = Interactions.from_pairs(
            rng.integers(1, num_users, 20_000), rng.integers(0, num_items, 20_000),
            num_users=num_users, num_items=num_items,
        )  # fmt: skip
        model = MF(num_users, num_items, dim=2)
        whole = rng.integers(-3, 4, (num_users, 2)), rng.integers(-3, 4, (num_items, 2))
        model.user_table.assign(whole[0])  # small integers: exact scores, and many ties
        model.item_table.assign(whole[1])
        scores = (whole[0] @ whole[1].T).astype(np.float32)
        scores[seen.users, seen.items] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        best[0] = np.argsort(-seen.popularity, kind="stable")[:20]
        ids = np.array([str(item) for item in range(num_items)])
        saved(serving.Server(Representations.of(model), seen, ids[:num_users], ids, 20), tmp_path)
        items, _, _ = serve(tmp_path, ids[:num_users].tolist())
        assert items == ids[best].tolist()
        found = answer(
            tmp_path, "recommend", user_id=ids[:num_users].tolist(), k=np.int32(90),
            exclude_item_id=ids[best].tolist(),
        )  # fmt: skip
        np.put_along_axis(scores, best, -np.inf, axis=1)
        others = np.argsort(-scores, axis=1, kind="stable")[:, :90]
        assert found["item_id"][1:] == ids[others[1:]].tolist()


class TestRecommend:
    """k and exclusions of the request's own; `serving_default` is the measure."""

    def ask(self, folder, users, k, excluded):
        return answer(
            folder, "recommend", user_id=users, k=np.int32(k), exclude_item_id=excluded
        )  # fmt: skip

    @pytest.mark.parametrize("k", [1, 9, 10])
    def test_begins_as_the_default_does(self, k, mf):
        users = ["é3⊗", "nobody", "é9⊗"]
        found, default = self.ask(mf, users, k, [[""]] * 3), answer(mf, user_id=users)
        assert found["item_id"] == [row[:k] for row in default["item_id"]]
        assert found["score"] == [row[:k] for row in default["score"]]
        assert found["known"] == [True, False, True]

    def test_leaves_out_what_is_excluded_of_known_and_unknown_users(self, mf):
        users = ["é3⊗", "nobody", "é9⊗"]
        default = answer(mf, user_id=users)["item_id"]
        excluded = [[default[0][0], default[0][2]], [default[1][1], "not there"], ["", ""]]
        found = self.ask(mf, users, 8, excluded)["item_id"]
        for row, own, left_out in zip(found, default, excluded, strict=True):
            assert row == [item for item in own if item not in left_out][:8]

    def test_no_exclusions_and_no_users(self, mf):
        users = ["é3⊗", "nobody"]
        nothing = np.empty((2, 0), str)
        found = self.ask(mf, users, 10, nothing)
        assert found["item_id"] == answer(mf, user_id=users)["item_id"]
        assert self.ask(mf, [], 10, np.empty((0, 0), str))["known"] == []

    def test_k_over_the_catalogue_is_cut(self, lightgcn):
        found = self.ask(lightgcn, ["27", "nobody"], 10**6, [["86"], ["5"]])
        assert [len(row) for row in found["item_id"]] == [30, 30]
        assert set(found["item_id"][0][:2]) == {"89", "92"}
        assert found["item_id"][0][2:] == [""] * 28
        assert found["score"][0][2:] == [LOWEST] * 28
        assert set(found["item_id"][1]) == {str(3 * i + 5) for i in range(1, 30)} | {""}

    @pytest.mark.parametrize("k", [0, -3])
    def test_k_below_1_is_refused(self, k, mf):
        message = refused(mf, "recommend", user_id=["é3⊗"], k=np.int32(k), exclude_item_id=[[""]])
        assert "k needs to be at least 1" in message

    def test_exclusions_of_other_users_are_refused(self, mf):
        message = refused(
            mf, "recommend", user_id=["é3⊗", "é9⊗"], k=np.int32(3), exclude_item_id=[["x"]]
        )
        assert "exclude_item_id needs a row a user_id" in message


class TestOthers:
    def test_scores_are_the_tables_products(self, mf, tiny):
        data, tables = tiny.data, tiny.model.propagate()
        users, items = np.arange(60), np.arange(60) + 7
        found = answer(
            mf, "score",
            user_id=data.user_ids[users].tolist(), item_id=data.item_ids[items].tolist(),
        )  # fmt: skip
        products = np.sum(tables.users.numpy()[users] * tables.items.numpy()[items], axis=1)
        np.testing.assert_allclose(found["score"], products, rtol=1e-5, atol=1e-6)
        assert all(found["known"])

    def test_scores_of_the_unknown(self, mf, tiny):
        item = tiny.data.item_ids[3]
        found = answer(
            mf, "score", user_id=["nobody", "é3⊗", "nobody"], item_id=[item, "nothing", "nothing"]
        )
        assert found["score"] == [tiny.seen.popularity[3], LOWEST, LOWEST]
        assert found["known"] == [False] * 3

    def test_scores_of_more_users_than_items_are_refused(self, mf):
        message = refused(mf, "score", user_id=["é3⊗"], item_id=["a", "b"])
        assert "user_id and item_id need the same length" in message

    def test_similar_items_have_the_largest_cosine(self, mf, tiny):
        vectors = tiny.model.propagate().items.numpy()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -np.inf)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :6]
        ids = tiny.data.item_ids
        found = answer(mf, "similar_items", item_id=[*ids.tolist(), "nothing"], k=np.int32(6))
        assert found["item_id"] == [*ids[best].tolist(), [""] * 6]
        assert found["known"] == [True] * 80 + [False]
        expected = np.take_along_axis(cosines, best, axis=1)
        np.testing.assert_allclose(found["score"][:-1], expected, rtol=1e-4)
        assert found["score"][-1] == [LOWEST] * 6

    def test_itself_is_no_similar_item_even_where_all_are_asked_for(self, mf, tiny):
        ids = tiny.data.item_ids.tolist()
        (row,) = answer(mf, "similar_items", item_id=ids[:1], k=np.int32(500))["item_id"]
        assert sorted(row[:-1]) == sorted(ids[1:])
        assert row[-1] == ""

    def test_embeddings_are_the_tables_rows(self, lightgcn, peculiar_run):
        trained = load_run(peculiar_run)
        tables = Representations.of(trained.model)
        for kind, ids, vectors in (
            ("user", trained.data.user_ids, tables.user_vectors),
            ("item", trained.data.item_ids, tables.item_vectors),
        ):
            found = answer(lightgcn, f"embed_{kind}", **{f"{kind}_id": [*ids.tolist(), "unknown"]})
            np.testing.assert_allclose(found["embedding"][:-1], vectors, rtol=1e-5, atol=1e-7)
            assert found["embedding"][-1] == [0.0] * 8
            assert found["known"] == [True] * len(ids) + [False]


class TestBadRequests:
    def test_another_dtype_is_refused(self, mf):
        assert "to be string but int64 is provided" in refused(mf, user_id=[3, 17])
        message = refused(mf, "similar_items", item_id=["a"], k=np.int64(3))
        assert "to be int32 but int64 is provided" in message

    def test_another_rank_is_refused(self, mf):
        message = refused(mf, user_id=[["é3⊗", "é9⊗"]])
        assert "[1,2] is not compatible with expected shape [?]" in message

    def test_a_large_batch(self, mf):
        number = 100_000
        users = [f"é{row % 61}⊗" for row in range(number)]
        found = answer(mf, "embed_user", user_id=users)
        assert found["known"] == [row % 61 != 60 for row in range(number)]
        found = answer(
            mf, "recommend", user_id=users, k=np.int32(1), exclude_item_id=[[""]] * number
        )
        assert found["item_id"] == (found["item_id"][:61] * 1640)[:number]

    def test_ids_of_any_unicode(self, tmp_path):
        ids = np.array(
            ["", " ", "a\nb", "\t", "\u202e", "👩‍👩‍👧", "é", "e\u0301", "\x01", "x" * 999]
        )
        num = len(ids)
        seen = Interactions.from_pairs(np.arange(num), np.arange(num), num_users=num, num_items=num)
        model = MF(num, num, dim=2)
        saved(serving.Server(Representations.of(model), seen, ids, ids, num), tmp_path)
        items, _, known = serve(tmp_path, [*ids.tolist(), "e"])
        assert known.tolist() == [True] * num + [False]
        for own, row in zip(ids.tolist(), items[:-1], strict=True):
            assert sorted([*row[:-1], own]) == sorted(ids.tolist())

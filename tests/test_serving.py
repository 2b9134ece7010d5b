"""The SavedModel: right, alone in the world, and never half there."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow.core.protobuf import saved_model_pb2

from autosample_tf import InputError, evaluation, export, recommend, serving
from autosample_tf.cli import main
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.training import load_run

LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(scope="module")
def mf(tiny_run, tmp_path_factory):
    """The folder of an exported MF, k 10, with 80 items and ids that are not ASCII."""
    return export(tiny_run, output=tmp_path_factory.mktemp("exported"), k=10)


@pytest.fixture(scope="module")
def lightgcn(peculiar_run, tmp_path_factory):
    """The folder of an exported LightGCN with users that are hard to serve, k 10."""
    return export(peculiar_run, output=tmp_path_factory.mktemp("exported"), k=10)


def serve(folder, users):
    """The signature's answer as lists of text, and arrays."""
    model = tf.saved_model.load(str(folder))  # kept: its tables go with it
    answer = model.signatures["serving_default"](user_id=tf.constant(users, tf.string))
    items = [[item.decode() for item in row] for row in answer["item_id"].numpy()]
    return items, answer["score"].numpy(), answer["known"].numpy()


class TestSignature:
    @pytest.mark.parametrize("exported", ["mf", "lightgcn"])
    def test_names_types_and_shapes(self, exported, request):
        folder = request.getfixturevalue(exported)
        loaded = tf.saved_model.load(str(folder)).signatures
        assert list(loaded) == ["serving_default"]
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
        assert (len(items), scores.shape, known.shape) == (batch, (batch, 10), (batch,))
        alone, scores_alone, known_alone = serve(mf, users[:61])
        assert items == [alone[row % 61] for row in range(batch)]
        np.testing.assert_allclose(scores, np.resize(scores_alone, (batch, 10)), rtol=1e-5)
        np.testing.assert_array_equal(known, np.resize(known_alone, batch))


class TestAnswers:
    @pytest.mark.parametrize("run", ["tiny_run", "peculiar_run"])
    def test_are_what_recommend_writes(self, run, request, tmp_path):
        run = request.getfixturevalue(run)
        lines = recommend(run, k=7).lines
        items, scores, known = serve(
            export(run, output=tmp_path, k=7), [line["user"] for line in lines]
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
        folder = export(peculiar_run, output=tmp_path, k=31)
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
        server = serving.Server(model, seen, ids[:3], ids, 4, learned)
        tf.saved_model.save(server, str(tmp_path), signatures=server.serve)
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
        server = serving.Server(model, seen, ids[:num_users], ids, 20)
        tf.saved_model.save(server, str(tmp_path), signatures=server.serve)
        items, _, _ = serve(tmp_path, ids[:num_users].tolist())
        assert items == ids[best].tolist()


CLEAN_PROCESS = """
import json, sys
for name in ("autosample_tf", "tensorflow_recommenders", "tf_keras", "keras"):
    sys.modules[name] = None  # an import of it fails
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](user_id=tf.constant(sys.argv[2:]))
print(json.dumps({
    "item_id": [[item.decode() for item in row] for row in answer["item_id"].numpy()],
    "score": answer["score"].numpy().tolist(),
    "known": answer["known"].numpy().tolist(),
}))
"""

C_API = """
import ctypes, json, sys
folder, library, input_name, *output_names = sys.argv[1:]
users = ["é3⊗", "nobody", "é with more bytes than a TF_TString holds inline ⊗"]
ctypes.CDLL(library + "/libtensorflow_framework.so.2", ctypes.RTLD_GLOBAL)
tf = ctypes.CDLL(library + "/libtensorflow_cc.so.2", ctypes.RTLD_GLOBAL)
pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
for name, result, arguments in (
    ("TF_NewStatus", pointer, []), ("TF_GetCode", ctypes.c_int, [pointer]),
    ("TF_Message", text, [pointer]), ("TF_NewGraph", pointer, []),
    ("TF_NewSessionOptions", pointer, []),
    ("TF_LoadSessionFromSavedModel", pointer,
     [pointer, pointer, text, pointer, ctypes.c_int, pointer, pointer, pointer]),
    ("TF_GraphOperationByName", pointer, [pointer, text]),
    ("TF_AllocateTensor", pointer, [ctypes.c_int, pointer, ctypes.c_int, size]),
    ("TF_TensorData", pointer, [pointer]), ("TF_Dim", ctypes.c_int64, [pointer, ctypes.c_int]),
    ("TF_StringInit", None, [pointer]), ("TF_StringCopy", None, [pointer, text, size]),
    ("TF_StringGetDataPointer", pointer, [pointer]), ("TF_StringGetSize", size, [pointer]),
    ("TF_SessionRun", None, [pointer, pointer, pointer, pointer, ctypes.c_int, pointer, pointer,
     ctypes.c_int, pointer, ctypes.c_int, pointer, pointer]),
):
    function = getattr(tf, name)
    function.restype, function.argtypes = result, arguments
class Output(ctypes.Structure):
    _fields_ = [("operation", pointer), ("index", ctypes.c_int)]
STRING, STRING_BYTES = 7, 24
status, graph = tf.TF_NewStatus(), tf.TF_NewGraph()
def check():
    assert tf.TF_GetCode(status) == 0, tf.TF_Message(status)
def output(name):
    operation, _, index = name.partition(":")
    return Output(tf.TF_GraphOperationByName(graph, operation.encode()), int(index))
session = tf.TF_LoadSessionFromSavedModel(
    tf.TF_NewSessionOptions(), None, folder.encode(), (text * 1)(b"serve"), 1, graph, None, status)
check()
tensor = tf.TF_AllocateTensor(
    STRING, (ctypes.c_int64 * 1)(len(users)), 1, STRING_BYTES * len(users))
for place, user in enumerate(users):
    string = tf.TF_TensorData(tensor) + STRING_BYTES * place
    tf.TF_StringInit(string)
    tf.TF_StringCopy(string, user.encode(), len(user.encode()))
answers = (pointer * len(output_names))()
tf.TF_SessionRun(
    session, None, (Output * 1)(output(input_name)), (pointer * 1)(tensor), 1,
    (Output * len(output_names))(*map(output, output_names)), answers, len(output_names),
    None, 0, None, status)
check()
items, scores, known = answers
shape = [tf.TF_Dim(items, axis) for axis in range(2)]
def string(place):
    at = tf.TF_TensorData(items) + STRING_BYTES * place
    return ctypes.string_at(tf.TF_StringGetDataPointer(at), tf.TF_StringGetSize(at)).decode()
flat = range(shape[0] * shape[1])
values = (ctypes.c_float * len(flat)).from_address(tf.TF_TensorData(scores))
print(json.dumps({
    "item_id": [[string(r * shape[1] + c) for c in range(shape[1])] for r in range(shape[0])],
    "score": [list(values[r * shape[1] : (r + 1) * shape[1]]) for r in range(shape[0])],
    "known": list((ctypes.c_bool * shape[0]).from_address(tf.TF_TensorData(known))),
}))
"""


class TestWithoutThisPackage:
    """Each in a process of its own, which cannot find this package."""

    def answer(self, tmp_path, *arguments):
        return subprocess.run(
            [sys.executable, "-I", *map(str, arguments)],
            cwd=tmp_path, check=True, capture_output=True, text=True, encoding="utf-8",
        ).stdout  # fmt: skip

    def check(self, folder, users, answer):
        items, scores, known = serve(folder, users)
        assert answer["item_id"] == items
        np.testing.assert_allclose(answer["score"], scores, rtol=1e-5)
        assert answer["known"] == known.tolist()

    @pytest.mark.parametrize("exported", ["mf", "lightgcn"])
    def test_tensorflow_alone(self, exported, request, tmp_path):
        folder = request.getfixturevalue(exported)
        users = ["é3⊗", "nobody", "17", "27"]
        answer = self.answer(tmp_path, "-c", CLEAN_PROCESS, folder, *users)
        self.check(folder, users, json.loads(answer))

    def test_saved_model_cli(self, mf, tmp_path):
        tool = "tensorflow.python.tools.saved_model_cli"
        self.answer(
            tmp_path, "-m", tool, "run", "--dir", mf, "--tag_set", "serve",
            "--signature_def", "serving_default", "--input_exprs", "user_id=['é3⊗', 'nobody']",
            "--outdir", tmp_path,
        )  # fmt: skip
        written = {name: np.load(tmp_path / f"{name}.npy", allow_pickle=True) for name in
                   ("item_id", "score", "known")}  # fmt: skip
        answer = {name: values.tolist() for name, values in written.items()}
        answer["item_id"] = [[item.decode() for item in row] for row in answer["item_id"]]
        self.check(mf, ["é3⊗", "nobody"], answer)

    @pytest.mark.skipif(sys.platform != "linux", reason="libraries are named as on Linux")
    def test_the_c_api(self, mf, tmp_path):
        library = Path(importlib.util.find_spec("tensorflow").origin).parent
        proto = saved_model_pb2.SavedModel.FromString((mf / "saved_model.pb").read_bytes())
        signature = proto.meta_graphs[0].signature_def["serving_default"]
        names = [signature.outputs[name].name for name in ("item_id", "score", "known")]
        answer = self.answer(
            tmp_path, "-c", C_API, mf, library, signature.inputs["user_id"].name, *names
        )
        users = ["é3⊗", "nobody", "é with more bytes than a TF_TString holds inline ⊗"]
        self.check(mf, users, json.loads(answer))


class TestFolder:
    def test_versions_follow_each_other(self, tiny_run, tmp_path):
        for name in ("7", "partial-of-another", "8.bak"):
            (tmp_path / name).mkdir()
        assert export(tiny_run, output=tmp_path, k=3) == tmp_path / "8"
        assert export(tiny_run, output=tmp_path, k=3) == tmp_path / "9"
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"7", "8", "9", "partial-of-another", "8.bak"}

    def test_is_in_the_run_by_default(self, tiny_run):
        folder = export(tiny_run, k=3)
        assert folder.parent == tiny_run / "export"
        assert int(folder.name) >= 1

    def test_a_number_taken_meanwhile_is_passed_over(self, tmp_path, monkeypatch):
        written = tmp_path / "partial" / "model"
        written.mkdir(parents=True)
        rename = Path.rename

        def raced(path, target):
            if target.name == "1":
                target.mkdir()
                (target / "saved_model.pb").touch()
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", raced)
        assert serving._published(written, tmp_path) == tmp_path / "2"

    def test_others_may_read_it(self, mf):
        assert mf.stat().st_mode & 0o055 == 0o055

    def test_holds_every_table_once(self, tmp_path):
        num_users, num_items = 2000, 1500
        pairs = np.random.default_rng(0).integers(0, num_users * num_items, 50_000)
        seen = Interactions.from_pairs(
            pairs // num_items, pairs % num_items, num_users=num_users, num_items=num_items
        )
        user_ids = np.array([f"a user of the name {user}" for user in range(num_users)])
        item_ids = np.array([f"an item of the name {item}" for item in range(num_items)])
        model = MF(num_users, num_items, dim=16)
        server = serving.Server(model, seen, user_ids, item_ids, 10)
        tf.saved_model.save(server, str(tmp_path), signatures=server.serve)
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        text = sum(len(str(name)) for name in [*user_ids, *item_ids])
        tables = 4 * 16 * (num_users + num_items) + 4 * seen.num_pairs + 8 * num_users
        assert sum(map(len, files)) < tables + text + 120_000  # for the graph
        for name in ("a user of the name 1999", "an item of the name 1499"):
            assert sum(file.count(name.encode()) for file in files) == 1


def swap(variable):
    """Its first half and its second change places."""
    variable.assign(tf.roll(variable, variable.shape[0] // 2, axis=0))


def forget_seen(server):
    """Leaves a seen item of each user in: the first, again and again."""
    first = tf.gather(server._seen_items, server._seen_offsets[:-1])
    degrees = server._seen_offsets[1:] - server._seen_offsets[:-1]
    server._seen_items.assign(tf.repeat(first, degrees))


class TestAgreement:
    """What is written wrongly is found, and taken away."""

    @pytest.mark.parametrize(
        ("sabotage", "named"),
        [
            (lambda server: swap(server._item_ids), "items"),
            (lambda server: swap(server._users), "scores"),
            (lambda server: swap(server._items), "scores"),
            (forget_seen, "seen items"),
            (lambda server: server._users.assign(server._users * 1.001), "scores"),
            (lambda server: server._item_ids[0].assign("not there"), "items"),
            (lambda server: server._popularity.assign(server._popularity + 1),
             "the popularity ranking"),
        ],
    )  # fmt: skip
    def test_a_wrong_table_is_found(self, sabotage, named, tiny_run, tmp_path, monkeypatch):
        class Sabotaged(serving.Server):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                sabotage(self)

        monkeypatch.setattr(serving, "Server", Sabotaged)
        with pytest.raises(InputError, match=f"rank as the run does.*differences in.*{named}"):
            export(tiny_run, output=tmp_path, k=80)
        assert not list(tmp_path.iterdir())

    def test_ties_may_swap_and_nothing_else(self):
        every = np.array([[0.5, 0.9, 0.7, 0.1, 0.7, 0.3]] * 2)  # items 2 and 4 tie
        own = np.array([[1, 2, 4, 0], [1, 2, 4, -1]])
        tolerance = np.full([2, 1], 1e-5)
        for served, agrees in (
            (own, True),
            (own[:, [0, 2, 1, 3]], True),  # the tied ones swap
            (own[:, [1, 0, 2, 3]], False),  # others do
            (own[:, [0, 1, 1, 3]], False),  # one of the tied ones comes twice
            (np.where(own == 0, -1, own), False),  # one is missing
            (np.where(own == -1, -2, own), False),  # an id that is not in the catalogue
            (np.where(own == -1, 3, own), False),  # one too many
        ):
            assert serving.same_or_tied(served, own, every, tolerance) == agrees


class TestCommand:
    def test_tells_the_folder(self, tiny_run, tmp_path):
        result = CliRunner().invoke(
            main, ["export", "--run", str(tiny_run), "--output", str(tmp_path), "--json"]
        )
        assert json.loads(result.stdout) == {"folder": str(tmp_path / "1")}
        items, _, _ = serve(tmp_path / "1", ["é3⊗"])
        assert len(items[0]) == 20

    @pytest.mark.parametrize(
        ("arguments", "code"), [(["--top-k", "0"], 1), (["--top-k", "x"], 2), (["--k", "1"], 2)]
    )
    def test_exit_codes(self, arguments, code, tiny_run):
        result = CliRunner().invoke(main, ["export", "--run", str(tiny_run), *arguments])
        assert result.exit_code == code
        assert "Traceback" not in result.stderr

"""The exported version: right, whole or not there, and complete."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from commands import ENVIRONMENT, separately, told_in_one_line, with_small_files

from autosample_tf import InputError, export
from autosample_tf.cli import main
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Interactions
from autosample_tf.models import MF
from autosample_tf.representations import Representations
from autosample_tf.runs import Run
from autosample_tf.serving import exporting, verification
from autosample_tf.serving import graph as serving
from autosample_tf.serving.indexing import build_index, recall
from autosample_tf.serving.quantization import ItemTable
from autosample_tf.serving.verification import Ranked, Request, ask, check_agreement
from autosample_tf.serving.warmup import FILE, predict_request
from autosample_tf.training import held_out, load_run

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="faiss is not installed (extra `index`)"
)
needs_serving_api = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_serving") is None,
    reason="tensorflow-serving-api is not installed (extra `serving`)",
)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    return export(tiny_run, output=tmp_path_factory.mktemp("exported"), top_k=10)


def ranked_of(trained):
    tables = Representations.of(trained.model)
    return Ranked(tables, trained.data, trained.seen, trained.learned)


class TestFolder:
    def test_versions_follow_each_other(self, tiny_run, tmp_path):
        for name in ("7", "partial-of-another", "8.bak"):
            (tmp_path / name).mkdir()
        assert export(tiny_run, output=tmp_path, top_k=3) == tmp_path / "8"
        assert export(tiny_run, output=tmp_path, top_k=3) == tmp_path / "9"
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"7", "8", "9", "partial-of-another", "8.bak"}

    def test_is_in_the_run_by_default(self, tiny_run):
        folder = export(tiny_run, top_k=3)
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
        assert exporting._published(written, tmp_path) == tmp_path / "2"

    def test_others_may_read_it(self, exported):
        assert exported.stat().st_mode & 0o055 == 0o055

    def test_holds_every_table_once(self, tmp_path):
        num_users, num_items = 2000, 1500
        pairs = np.random.default_rng(0).integers(0, num_users * num_items, 50_000)
        seen = Interactions.from_pairs(
            pairs // num_items, pairs % num_items, num_users=num_users, num_items=num_items
        )
        user_ids = np.array([f"a user of the name {user}" for user in range(num_users)])
        item_ids = np.array([f"an item of the name {item}" for item in range(num_items)])
        tables = Representations.of(MF(num_users, num_items, dim=64))
        server = serving.Server(tables, seen, user_ids, item_ids, 10)
        tf.saved_model.save(server, str(tmp_path), signatures=server.signatures)
        files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        vectors = 4 * 64 * (num_users + num_items)
        rest = 4 * seen.num_pairs + 9 * num_users + 8 * num_items  # seen, and a few a row
        text = sum(len(str(name)) for name in [*user_ids, *item_ids])
        assert server.table_bytes() == vectors + rest + text + 8
        assert sum(map(len, files)) < 1.3 * server.table_bytes()
        for name in ("a user of the name 1999", "an item of the name 1499"):
            assert sum(file.count(name.encode()) for file in files) == 1

    def test_the_card_tells_data_figures_weights_and_settings(self, exported, tiny_run):
        card = (exported / "model_card.md").read_text(encoding="utf-8")
        run = Run(tiny_run)
        metrics = run.metrics()
        for text in (
            "# mf on clicks",
            f"| items | {run.config()['dataset']['counts']['items']} |",
            run.config()["dataset"]["sha256"],
            f"| ndcg@10 | {metrics['valid']['ndcg@10']:.4f} | {metrics['test']['ndcg@10']:.4f} |",
            "| dns:pool=8 |",
            "| dim | 8 |",
            "| users_compared | 60 |",
            "exclude_item_id [b, any]",
        ):
            assert text in card


def swap(variable):
    """Its first half and its second change places."""
    variable.assign(tf.roll(variable, variable.shape[0] // 2, axis=0))


def swap_items(server):
    server._item_ids = tf.roll(server._item_ids, 5, axis=0)


def name_another(server):
    server._item_ids = tf.concat([["not there"], server._item_ids[1:]], axis=0)


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
            (swap_items, "items"),
            (lambda server: swap(server._users), "scores"),
            (lambda server: swap(server._items._codes), "scores"),
            (forget_seen, "seen items"),
            (lambda server: server._users.assign(server._users * 1.001), "scores"),
            (name_another, "items"),
            (lambda server: server._popularity.assign(server._popularity + 1),
             "the popularity ranking"),
            (lambda server: swap(server._norms), "similar items"),
        ],
    )  # fmt: skip
    def test_a_wrong_table_is_found(self, sabotage, named, tiny_run, tmp_path):
        trained = load_run(tiny_run)
        ranked, data = ranked_of(trained), trained.data
        server = serving.Server(
            ranked.representations, trained.seen, data.user_ids, data.item_ids, 80
        )
        sabotage(server)
        tf.saved_model.save(server, str(tmp_path), signatures=server.signatures)
        with pytest.raises(InputError, match=f"rank as the run does.*differences in.*{named}"):
            check_agreement(tmp_path, ranked, 80)

    def test_nothing_stays_of_a_model_that_differs(self, tiny_run, tmp_path, monkeypatch):
        class Sabotaged(serving.Server):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                swap(self._users)

        monkeypatch.setattr(exporting, "Server", Sabotaged)
        with pytest.raises(InputError, match="Nothing was exported"):
            export(tiny_run, output=tmp_path)
        assert not list(tmp_path.iterdir())

    def test_the_asked_process_sees_no_package(self, tmp_path):
        """Where the C API's module is run, not even TensorFlow's Python can be imported."""
        names = ("autosample_tf", "tensorflow_recommenders", "tf_keras", "tensorflow", "numpy")
        found = "[n for n in sys.argv[1:] if importlib.util.find_spec(n)]"
        code = f"import importlib.util, sys; print({found})"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, *names],
            capture_output=True, text=True, check=True, cwd=tmp_path, env=ENVIRONMENT,
        )  # fmt: skip
        assert done.stdout.strip() == "[]"

    def test_a_model_that_does_not_load_is_told(self, tmp_path):
        with pytest.raises(InputError, match=r"C API to load the model in .*Could not find Saved"):
            ask(tmp_path, [])

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
            assert verification.same_or_tied(served, own, every, tolerance) == agrees


class TestLoaders:
    """Other ways to the same answers."""

    users = ("é3⊗", "nobody")

    def expected(self, folder):
        return ask(folder, [Request("serving_default", {"user_id": list(self.users)})])[0]

    def test_tensorflow_without_this_package_tfrs_and_keras(self, exported):
        code = """
import json, sys
for name in ("autosample_tf", "tensorflow_recommenders", "tf_keras", "keras"):
    sys.modules[name] = None  # an import of it fails
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](user_id=tf.constant(sys.argv[2:]))
print(json.dumps([[item.decode() for item in row] for row in answer["item_id"].numpy()]))
"""
        done = subprocess.run(
            [sys.executable, "-c", code, str(exported), *self.users],
            capture_output=True, check=True, encoding="utf-8", cwd=exported,
        )  # fmt: skip
        assert json.loads(done.stdout) == self.expected(exported)["item_id"]

    def test_saved_model_cli(self, exported, tmp_path):
        tool = "tensorflow.python.tools.saved_model_cli"
        subprocess.run(
            [sys.executable, "-m", tool, "run", "--dir", exported, "--tag_set", "serve",
             "--signature_def", "serving_default", "--input_exprs",
             f"user_id={list(self.users)}", "--outdir", tmp_path],
            check=True, capture_output=True, cwd=tmp_path,
        )  # fmt: skip
        written = np.load(tmp_path / "item_id.npy", allow_pickle=True).tolist()
        items = [[item.decode() for item in row] for row in written]
        assert items == self.expected(exported)["item_id"]
        assert np.load(tmp_path / "known.npy").tolist() == [True, False]

    @needs_serving_api
    def test_a_request_as_a_proto(self, exported):
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        sent = predict_request(Request("serving_default", {"user_id": list(self.users)}), "shop")
        got = PredictRequest.FromString(sent.SerializeToString())
        assert (got.model_spec.name, got.model_spec.signature_name) == ("shop", "serving_default")
        users = [user.decode() for user in tf.make_ndarray(got.inputs["user_id"])]
        (found,) = ask(exported, [Request("serving_default", {"user_id": users})])
        assert found == self.expected(exported)


@needs_serving_api
def test_every_warm_up_request_is_answered(exported):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    requests = []
    for record in tf.data.TFRecordDataset(str(exported / FILE)):
        sent = PredictionLog.FromString(record.numpy()).predict_log.request
        arrays = {name: tf.make_ndarray(value) for name, value in sent.inputs.items()}
        inputs = {
            name: np.array([v.decode() for v in values.ravel()]).reshape(values.shape)
            if values.dtype == object
            else values
            for name, values in arrays.items()
        }
        requests.append(Request(sent.model_spec.signature_name, inputs))
    batched = {
        name
        for name, signature in tf.saved_model.load(str(exported)).signatures.items()
        if all(one.shape.rank for one in signature.structured_input_signature[1].values())
    }
    assert {request.signature for request in requests} == batched
    assert {"serving_default", "score", "embed_user", "embed_item"} == batched
    answers = ask(exported, requests)
    assert not [answer for answer in answers if "error" in answer]
    assert {len(answer["known"]) for answer in answers} == {1, 32}
    assert all(all(answer["known"]) for answer in answers)
    assert json.loads((exported / "export.json").read_text())["warmup_requests"] == len(requests)


class TestQuantization:
    def test_int8_keeps_each_vector_within_half_a_step(self):
        vectors = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
        vectors[7] = 0.0
        stored = ItemTable(tf.constant(vectors), "int8").all().numpy()
        step = np.abs(vectors).max(axis=1, keepdims=True) / 127
        assert (np.abs(stored - vectors) <= 0.5001 * step).all()

    def test_bfloat16_rounds_to_8_bits(self):
        vectors = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
        stored = ItemTable(tf.constant(vectors), "bfloat16").all().numpy()
        assert (np.abs(stored - vectors) <= np.abs(vectors) / 2**8).all()
        assert (stored != vectors).any()

    @pytest.mark.parametrize("kind", [None, "bfloat16", "int8"])
    def test_rows_are_those_of_the_whole(self, kind):
        table = ItemTable(tf.random.stateless_normal([9, 4], [1, 2]), kind)
        rows = np.array([[3, 0], [8, 3]])
        np.testing.assert_array_equal(table.rows(rows), table.all().numpy()[rows])

    @pytest.mark.parametrize(("kind", "bytes_a_row"), [("bfloat16", 16), ("int8", 8 + 4)])
    def test_an_export_is_smaller_and_tells_what_it_loses(
        self, kind, bytes_a_row, tiny_run, exported, tmp_path
    ):
        folder = export(tiny_run, output=tmp_path, top_k=10, quantize=kind)
        facts, exact = (json.loads((f / "export.json").read_text()) for f in (folder, exported))
        assert exact["quantize"] is None
        assert exact["table_bytes"] - facts["table_bytes"] == 80 * (32 - bytes_a_row)
        trained = load_run(tiny_run)
        pairs, seen = held_out(trained.data, trained.settings, "valid")
        vectors = ask(folder, [Request("embed_item", {"item_id": trained.data.item_ids.tolist()})])
        tables = Representations.of(trained.model)
        served = tables.with_item_vectors(tf.constant(vectors[0]["embedding"], tf.float32))
        for name, each in (("float32", tables), (kind, served)):
            metrics = Evaluator(each, pairs, seen, [10, 5], trained.learned).mean()
            assert facts["quantize"][name] == pytest.approx(metrics)


class TestIndex:
    @needs_faiss
    @pytest.mark.parametrize("kind", ["faiss", "hnsw"])
    def test_finds_what_brute_force_finds(self, kind, tiny_run, tmp_path):
        import faiss

        folder = export(tiny_run, output=tmp_path, top_k=10, index=kind)
        index = faiss.read_index(str(folder / "index" / "items.faiss"))
        ids = json.loads((folder / "index" / "item_ids.json").read_text(encoding="utf-8"))
        trained = load_run(tiny_run)
        tables = trained.model.propagate()
        scores = tables.users.numpy() @ tables.items.numpy().T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        found = index.search(tables.users.numpy(), 10)[1]
        hits = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best, found, strict=True)])
        facts = json.loads((folder / "export.json").read_text())["index"]
        assert facts["recall"]["recall@10"] == pytest.approx(hits)
        assert hits > 0.8
        assert ids == trained.data.item_ids.tolist()

    @needs_faiss
    @pytest.mark.parametrize("kind", ["faiss", "hnsw"])
    def test_recall_on_clustered_vectors(self, kind):
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(40, 16))
        vectors = centres[rng.integers(40, size=2000)] + 0.1 * rng.normal(size=(2000, 16))
        vectors = vectors.astype(np.float32)
        found = recall(build_index(vectors, kind), vectors, vectors[:200], 10)
        assert 0.9 < found <= 1.0

    def test_without_faiss_it_is_told_before_anything_else(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(InputError, match=r"faiss for an index.*pip install"):
            export(tmp_path / "no run", index="hnsw")


class TestCommand:
    def test_tells_the_folder_and_what_was_found(self, tiny_run, tmp_path):
        arguments = ["--run", str(tiny_run), "--output", str(tmp_path), "--quantize", "int8"]
        result = CliRunner().invoke(main, ["export", *arguments, "--json"])
        told = json.loads(result.stdout)
        assert told.pop("folder") == str(tmp_path / "1")
        assert told == json.loads((tmp_path / "1" / "export.json").read_text())
        assert told["k"] == 20
        assert told["quantize"]["kind"] == "int8"
        result = CliRunner().invoke(main, ["export", *arguments])
        assert "compared with the run for 60 users" in result.stdout
        assert "int8 valid ndcg@10 " in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["--top-k", "0"], 1),
            (["--top-k", "x"], 2),
            (["--k", "1"], 2),
            (["--quantize", "int4"], 2),
            (["--index", "scann"], 2),
        ],
    )
    def test_exit_codes(self, arguments, code, tiny_run):
        result = CliRunner().invoke(main, ["export", "--run", str(tiny_run), *arguments])
        assert result.exit_code == code
        assert "Traceback" not in result.stderr

    def test_a_run_without_a_model_is_an_error(self, tiny_run, tmp_path):
        for name in ("config.json", "metrics.json"):
            (tmp_path / name).write_bytes((tiny_run / name).read_bytes())
        done = separately("export", "--run", tmp_path)
        line = told_in_one_line((done.returncode, done.stdout, done.stderr))
        assert "Expected the parameters of this model" in line
        assert not (tmp_path / "export").exists()

    @pytest.mark.skipif(os.name != "posix", reason="limits of a file's size are POSIX's")
    def test_a_disk_that_takes_no_more_leaves_nothing(self, tiny_run, tmp_path):
        arguments = ("export", "--run", tiny_run, "--output", tmp_path)
        line = told_in_one_line(with_small_files(20_000, *arguments))
        assert "room and leave to write a model" in line
        assert "Nothing was exported" in line
        assert not list(tmp_path.iterdir())

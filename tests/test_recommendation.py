"""Files of recommendations: whole, in original ids, and as good as the run says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from commands import told_in_one_line, with_small_files
from filelock import FileLock
from small_runs import write_pairs

import autosample_tf
from autosample_tf import InputError, Settings, recommend
from autosample_tf.cli import main
from autosample_tf.recommendation import recommending as recommendation
from autosample_tf.splits import with_validation
from autosample_tf.synthetic import synthetic
from autosample_tf.training import load_run


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_split(path):
    """{user: items} of a LightGCN file, ids as text."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {user: set(items) for user, *items in rows}


def metrics_by_hand(lines, truth, k):
    """The averages over users with a held-out item, from a file's lines alone."""
    sums = dict.fromkeys(("recall", "ndcg", "precision", "hit_rate", "mrr", "map"), 0.0)
    for line in lines:
        held = truth.get(line["user"], set())
        if not held:
            continue
        ranks = [rank for rank, item in enumerate(line["items"][:k], 1) if item in held]
        gains = sum(1 / np.log2(1 + rank) for rank in ranks)
        ideal = sum(1 / np.log2(1 + rank) for rank in range(1, min(k, len(held)) + 1))
        sums["recall"] += len(ranks) / len(held)
        sums["ndcg"] += gains / ideal
        sums["precision"] += len(ranks) / k
        sums["hit_rate"] += bool(ranks)
        sums["mrr"] += 1 / ranks[0] if ranks else 0
        sums["map"] += sum(n / rank for n, rank in enumerate(ranks, 1)) / len(held)
    num_users = sum(bool(truth.get(line["user"])) for line in lines)
    return {f"{name}@{k}": total / num_users for name, total in sums.items()}


@pytest.fixture(scope="module")
def everyone(tiny_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("recommended") / "all.jsonl"
    recommend(tiny_run, output=path, top_k=10)
    return path


class TestContents:
    def test_the_files_metrics_are_the_runs(self, peculiar_run, tmp_path):
        recommend(peculiar_run, output=tmp_path / "top.jsonl", top_k=10)
        lines, truth = read_lines(tmp_path / "top.jsonl"), read_split(peculiar_run / "../test.txt")
        stated = json.loads((peculiar_run / "metrics.json").read_text())["test"]
        recomputed = metrics_by_hand(lines, truth, 10) | metrics_by_hand(lines, truth, 5)
        assert recomputed == pytest.approx(stated, abs=1e-6)

    def test_the_files_metrics_are_the_runs_where_the_split_was_ours(self, tiny_run, everyone):
        data = load_run(tiny_run).data
        truth = {
            user: set(data.item_ids[data.test.row(place)].tolist())
            for place, user in enumerate(data.user_ids.tolist())
        }
        stated = json.loads((tiny_run / "metrics.json").read_text())["test"]
        assert metrics_by_hand(read_lines(everyone), truth, 10) == pytest.approx(
            {name: value for name, value in stated.items() if name.endswith("@10")}, abs=1e-6
        )

    def test_ranks_as_sorting_all_scores_does(self, tiny_run, everyone):
        trained = load_run(tiny_run)
        data, state = trained.data, trained.model.propagate()
        scores = state.users.numpy() @ state.items.numpy().T
        for place, line in enumerate(read_lines(everyone)):
            scores[place, trained.seen.row(place)] = -np.inf
            best = np.argsort(-scores[place], kind="stable")[:10]
            assert line["user"] == data.user_ids[place]
            assert line["items"] == data.item_ids[best].tolist()
            np.testing.assert_allclose(line["scores"], scores[place, best], rtol=1e-5)

    def test_train_and_validation_are_left_out(self, peculiar_run):
        seen = read_split(peculiar_run / "../train.txt")  # validation was carved from it
        for line in recommend(peculiar_run, top_k=30).lines:
            assert not seen.get(line["user"], set()) & set(line["items"])
            assert len(line["items"]) == 30 - len(seen.get(line["user"], ()))

    def test_a_user_gets_no_more_than_is_unseen(self, peculiar_run):
        done = recommend(peculiar_run, users=["17", "27"], top_k=10)
        whole_catalogue, all_but_three = done.lines
        assert whole_catalogue == {"user": "17", "items": [], "scores": []}
        assert set(all_but_three["items"]) == {"86", "89", "92"}
        assert (done.users, done.items) == (2, 3)

    def test_a_user_without_train_pairs_gets_the_popular_items(self, peculiar_run):
        train = read_split(peculiar_run / "../train.txt")
        counts = {str(3 * i + 5): 0 for i in range(30)}
        for items in train.values():
            for item in items:
                counts[item] += 1
        popular = sorted(counts, key=lambda item: (-counts[item], int(item)))[:6]
        (line,) = recommend(peculiar_run, users=[7], top_k=6).lines
        assert line["items"] == popular
        assert line["scores"] == [counts[item] for item in popular]

    def test_scores_keep_every_digit(self, tiny_run, everyone):
        ranked = recommendation.Ranker(*load_model(tiny_run), 10).rank(np.arange(60))
        written = np.array([line["scores"] for line in read_lines(everyone)], np.float32)
        np.testing.assert_array_equal(written, ranked.scores)


def load_model(run):
    trained = load_run(run)
    return trained.model, trained.seen


class TestFormats:
    def test_all_say_the_same(self, tiny_run, everyone, tmp_path):
        rows = [
            (line["user"], item, rank, np.float32(score))
            for line in read_lines(everyone)
            for rank, (item, score) in enumerate(zip(line["items"], line["scores"], strict=True), 1)
        ]
        for name in ("top.csv", "top.parquet"):
            assert recommend(tiny_run, output=tmp_path / name, top_k=10).items == len(rows)
        with (tmp_path / "top.csv").open(newline="", encoding="utf-8") as file:
            header, *table = csv.reader(file)
        assert header == ["user", "item", "rank", "score"]
        assert [(u, i, int(r), np.float32(s)) for u, i, r, s in table] == rows
        table = pyarrow.parquet.read_table(tmp_path / "top.parquet")
        assert table.column_names == header
        assert list(zip(*table.to_pydict().values(), strict=True)) == rows

    def test_a_stream_gets_json_lines(self, tiny_run, everyone):
        stream = io.StringIO()
        recommend(tiny_run, output=stream, top_k=10)
        assert stream.getvalue() == everyone.read_text(encoding="utf-8")

    def test_no_output_gives_the_lines(self, tiny_run, everyone):
        done = recommend(tiny_run, top_k=10)
        assert done.lines == read_lines(everyone)
        assert (done.users, done.items, done.unknown) == (60, 600, 0)

    @pytest.mark.parametrize("name", ["top.jsonl", "top.csv", "top.parquet"])
    def test_blocks_make_no_difference(self, name, tiny_run, tmp_path, monkeypatch):
        recommend(tiny_run, output=tmp_path / name, top_k=3)
        monkeypatch.setattr(recommendation, "_USERS_PER_BLOCK", 7)
        recommend(tiny_run, output=tmp_path / "blocks" / name, top_k=3)
        whole, blocks = (read_rows(tmp_path / part / name) for part in (".", "blocks"))
        assert blocks == whole

    def test_unknown_extensions_list_the_known(self, tmp_path):
        with pytest.raises(InputError, match=r"'top.xml'. Known: .csv, .jsonl, .parquet"):
            recommend(tmp_path, output="top.xml")


def read_rows(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    return path.read_text(encoding="utf-8")


class Stopped(Exception):
    """Stands for a power cut."""


def stopping_after(blocks):
    """A ranker that counts, and stops at the block after so many."""

    class Counting(recommendation.Ranker):
        ranked = 0

        def rank(self, users):
            if Counting.ranked == blocks:
                raise Stopped
            Counting.ranked += 1
            return super().rank(users)

    return Counting


@pytest.fixture
def small_blocks(monkeypatch):
    """Of 16 users: four for the 60 of the tiny run."""
    monkeypatch.setattr(recommendation, "_USERS_PER_BLOCK", 16)
    return monkeypatch


class TestStopped:
    def stop(self, small_blocks, blocks, *arguments, **options):
        with small_blocks.context() as patch:
            patch.setattr(recommendation, "Ranker", stopping_after(blocks))
            with pytest.raises(Stopped):
                recommend(*arguments, **options)

    def go_on(self, small_blocks, *arguments, **options):
        """How many blocks it ranked, and what it says."""
        ranker = stopping_after(10**9)
        with small_blocks.context() as patch:
            patch.setattr(recommendation, "Ranker", ranker)
            done = recommend(*arguments, **options)
        return ranker.ranked, done

    @pytest.mark.parametrize("name", ["top.jsonl", "top.csv", "top.parquet"])
    @pytest.mark.parametrize("before", [None, b"an earlier file"])
    def test_goes_on_and_ends_as_if_never_stopped(
        self, name, before, tiny_run, tmp_path, small_blocks
    ):
        recommend(tiny_run, output=tmp_path / "whole" / name, top_k=3)
        path = tmp_path / name
        if before:
            path.write_bytes(before)
        self.stop(small_blocks, 2, tiny_run, output=path, top_k=3)
        assert (path.read_bytes() if path.exists() else None) == before
        ranked, done = self.go_on(small_blocks, tiny_run, output=path, top_k=3)
        assert ranked == 2
        assert path.read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert (done.users, done.items) == (60, 180)
        assert {p.name for p in tmp_path.iterdir()} == {name, "whole"}

    @pytest.mark.parametrize(
        "change", [{"top_k": 4}, {"users": ["é1⊗"]}, {"candidates": ["товар 1", "товар 2"]}]
    )
    def test_begins_anew_where_something_else_is_asked(
        self, change, tiny_run, tmp_path, small_blocks
    ):
        path = tmp_path / "top.jsonl"
        self.stop(small_blocks, 1, tiny_run, output=path, top_k=3)
        asked = {"top_k": 3, **change}
        self.go_on(small_blocks, tiny_run, output=path, **asked)
        assert read_lines(path) == recommend(tiny_run, **asked).lines

    def test_two_do_not_write_the_same_file(self, tiny_run, tmp_path, small_blocks):
        path = tmp_path / "top.jsonl"
        self.stop(small_blocks, 1, tiny_run, output=path)
        with (
            FileLock(tmp_path / "top.jsonl.parts" / "lock"),
            pytest.raises(InputError, match=r"no other process writes.*top\.jsonl\."),
        ):
            recommend(tiny_run, output=path)

    @pytest.mark.skipif(os.name != "posix", reason="limits of a file's size are POSIX's")
    @pytest.mark.parametrize("name", ["top.jsonl", "top.parquet"])
    def test_a_disk_that_takes_no_more(self, name, tiny_run, tmp_path):
        path = tmp_path / name
        path.write_text("an earlier file")
        arguments = ("recommend", "--run", tiny_run, "--output", path)
        told_in_one_line(with_small_files(900, *arguments))
        assert path.read_text() == "an earlier file"
        parts = tmp_path / f"{name}.parts"
        assert {p.name for p in parts.iterdir()} == {"lock", "request.json"}
        recommend(tiny_run, output=path)
        assert [p.name for p in tmp_path.iterdir()] == [name]


class TestCandidatesAndExclusions:
    """Against all lines, from which what is not to be there is taken by hand."""

    def everything(self, run):
        return recommend(run, top_k=30).lines

    def by_hand(self, run, keeps, k):
        rows = []
        for line in self.everything(run):
            pairs = zip(line["items"], line["scores"], strict=True)
            kept = [(item, score) for item, score in pairs if keeps(line["user"], item)][:k]
            rows.append((line["user"], [item for item, _ in kept], [score for _, score in kept]))
        return rows

    def same(self, lines, expected):
        assert [(line["user"], line["items"]) for line in lines] == [row[:2] for row in expected]
        for line, row in zip(lines, expected, strict=True):
            np.testing.assert_allclose(line["scores"], row[2], rtol=1e-5, atol=1e-6)

    @pytest.fixture
    def files(self, tmp_path):
        (tmp_path / "candidates.txt").write_text("8\n89\n11\nnothing\n5\n17\n")
        (tmp_path / "excluded.txt").write_text("17\n8\n999\n")
        pairs = [("7", "5"), ("27", "86"), ("nobody", "5"), ("37", "x")]
        pairs += [(str(10 * user + 7), "11") for user in range(20)]
        text = "".join(f"{user},{item},1\n" for user, item in pairs)
        (tmp_path / "pairs.csv").write_text("user,item,rank\n" + text)
        return tmp_path, set(pairs)

    def test_candidates_alone_are_ranked(self, peculiar_run, files):
        chosen = {"8", "89", "11", "5", "17"}
        done = recommend(peculiar_run, top_k=4, candidates=files[0] / "candidates.txt")
        self.same(done.lines, self.by_hand(peculiar_run, lambda _, item: item in chosen, 4))
        assert done.unknown_items == 1
        assert done.items == sum(len(line["items"]) for line in done.lines)

    def test_fewer_candidates_than_k(self, peculiar_run):
        done = recommend(peculiar_run, top_k=10, candidates=["5", "8"])
        self.same(done.lines, self.by_hand(peculiar_run, lambda _, item: item in "58", 10))

    def test_items_excluded_for_everybody(self, peculiar_run, files):
        done = recommend(peculiar_run, top_k=5, exclude=files[0] / "excluded.txt")
        left = {"17", "8"}
        self.same(done.lines, self.by_hand(peculiar_run, lambda _, item: item not in left, 5))
        assert done.unknown_items == 1

    def test_pairs_excluded(self, peculiar_run, files):
        folder, pairs = files
        done = recommend(peculiar_run, top_k=5, exclude=folder / "pairs.csv")
        expected = self.by_hand(peculiar_run, lambda *pair: pair not in pairs, 5)
        self.same(done.lines, expected)  # 7 has no train pairs: popularity, exclusions uncounted
        assert done.unknown_items == 2
        assert done.items == sum(len(line["items"]) for line in done.lines)

    def test_both(self, peculiar_run, files):
        folder, pairs = files
        chosen = {"8", "89", "11", "5", "17"}
        done = recommend(
            peculiar_run,
            top_k=3,
            exclude=folder / "pairs.csv",
            candidates=folder / "candidates.txt",
        )
        keeps = lambda user, item: item in chosen and (user, item) not in pairs  # noqa: E731
        self.same(done.lines, self.by_hand(peculiar_run, keeps, 3))

    def test_test_pairs_left_out_on_demand(self, peculiar_run, tmp_path):
        """And in an export, which is compared with the run's ranking."""
        run = load_run(peculiar_run)
        data = run.data
        done = recommend(peculiar_run, top_k=data.num_items, leave_out_test=True)
        for user, line in enumerate(done.lines):
            known = np.union1d(run.seen.row(user), data.test.row(user))
            assert set(line["items"]) == set(np.delete(data.item_ids, known))
        plain = recommend(peculiar_run, top_k=data.num_items)
        assert plain.items - done.items == data.test.num_pairs
        autosample_tf.export(peculiar_run, output=tmp_path, top_k=5, leave_out_test=True)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("items.txt", ""),
            ("items.txt", "new\n"),
            ("pairs.csv", ""),
            ("pairs.csv", "user,item\n"),
            ("pairs.csv", "\n"),
            ("pairs.jsonl", ""),
        ],
    )
    def test_nothing_known_is_excluded(self, name, text, peculiar_run, tmp_path):
        """As a nightly job may find: it is no fault."""
        (tmp_path / name).write_text(text)
        done = recommend(peculiar_run, top_k=5, exclude=tmp_path / name)
        assert done.lines == recommend(peculiar_run, top_k=5).lines

    def test_a_line_of_json_may_hold_one_pair(self, peculiar_run, files):
        folder, pairs = files
        lines = [json.dumps({"user": user, "item": item}) for user, item in sorted(pairs)]
        (folder / "pairs.jsonl").write_text("\ufeff" + "\n".join([*lines, "", ""]), "utf-8")
        done = recommend(peculiar_run, top_k=5, exclude=folder / "pairs.jsonl")
        expected = recommend(peculiar_run, top_k=5, exclude=folder / "pairs.csv")
        assert done.lines == expected.lines

    @pytest.mark.parametrize(
        ("name", "head", "row"),
        [
            ("pairs.tsv", "user_id\titem_id\n", "{}\t{}\n"),
            ("pairs.csv", "uid;ItemID\n", "{};{}\n"),
            ("pairs.inter", "user_id:token\titem_id:token\n", " {}\t{} \n"),
            ("pairs.csv.gz", "user, item\n", "{}, {}\n"),
            ("pairs.ndjson", "", '{{"user": {}.0, "item": {}.0}}\n'),
        ],
    )
    def test_pairs_are_excluded_as_a_dataset_has_them(
        self, name, head, row, peculiar_run, tmp_path
    ):
        opener = gzip.open if name.endswith(".gz") else open
        with opener(tmp_path / name, "wt", encoding="utf-8") as file:
            file.write(head + row.format(7, 5) + row.format(27, 86))
        (tmp_path / "plain.csv").write_text("user,item\n7,5\n27,86\n")
        done = recommend(peculiar_run, top_k=5, exclude=tmp_path / name)
        assert done.unknown_items == 0
        assert done.lines == recommend(peculiar_run, top_k=5, exclude=tmp_path / "plain.csv").lines
        assert done.lines != recommend(peculiar_run, top_k=5).lines

    def test_ids_come_as_lists_with_spaces_and_as_floats_too(self, peculiar_run, tmp_path):
        (tmp_path / "items.txt").write_text("17 \n 8\n8\n")
        of_file = recommend(peculiar_run, users=["7"], top_k=5, exclude=tmp_path / "items.txt")
        given = recommend(peculiar_run, users=[7.0, "7 "], top_k=5, exclude=[17, 8.0])
        assert of_file.lines == given.lines
        assert (of_file.unknown_items, given.unknown) == (0, 0)

    def test_a_file_of_ids_that_is_not_there_is_an_error(self, peculiar_run):
        with pytest.raises(InputError, match="a file with one a line; received 'u1', where there"):
            recommend(peculiar_run, users="u1")

    @pytest.mark.parametrize("name", ["first.jsonl", "first.csv", "first.parquet"])
    def test_what_was_recommended_can_be_excluded(self, name, peculiar_run, tmp_path):
        recommend(peculiar_run, output=tmp_path / name, top_k=3)
        whole = recommend(peculiar_run, top_k=6).lines
        rest = recommend(peculiar_run, top_k=3, exclude=tmp_path / name).lines
        assert [line["items"] for line in rest] == [line["items"][3:] for line in whole]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("pairs.csv", b"user,thing\n1,2\n"),
            ("pairs.jsonl", b'{"user": "1"}\n'),
            ("pairs.jsonl", b"user item\n"),
            ("pairs.jsonl", b"\xff\xfe"),
            ("pairs.parquet", b"no parquet"),
        ],
    )
    def test_a_file_that_is_no_pairs_is_an_error(self, name, text, peculiar_run, tmp_path):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(InputError, match=f"pairs of users and items in .*{name}; received"):
            recommend(peculiar_run, exclude=tmp_path / name)

    def test_no_item_left_is_an_error(self, peculiar_run, tmp_path):
        (tmp_path / "all.txt").write_text("5\n8\n")
        with pytest.raises(InputError, match="candidates that are all excluded"):
            recommend(peculiar_run, candidates=["5", "8"], exclude=tmp_path / "all.txt")

    def test_no_known_candidate_is_an_error(self, peculiar_run):
        with pytest.raises(InputError, match="ids of the run's 30 items, such as '5'"):
            recommend(peculiar_run, candidates=["x"])


class TestUsers:
    def test_are_served_once_in_the_order_asked(self, tiny_run):
        done = recommend(tiny_run, users=["é9⊗", "é3⊗", "é9⊗"], top_k=2)
        assert [line["user"] for line in done.lines] == ["é9⊗", "é3⊗"]
        assert done.lines[1]["items"][0].startswith("товар ")

    def test_file_and_list_agree(self, tiny_run, tmp_path):
        (tmp_path / "users.txt").write_bytes("\ufeffé9⊗\r\n\r\né3⊗".encode())
        from_file = recommend(tiny_run, users=tmp_path / "users.txt", top_k=2)
        assert from_file == recommend(tiny_run, users=["é9⊗", "é3⊗"], top_k=2)

    def test_unknown_ones_are_counted_and_the_rest_served(self, tiny_run, caplog):
        done = recommend(tiny_run, users=["nobody", "é3⊗", "é", "3"], top_k=2)
        assert [line["user"] for line in done.lines] == ["é3⊗"]
        assert done.unknown == 3
        assert "passed over: 3 ('nobody', 'é', '3')" in caplog.text

    @pytest.mark.parametrize("users", [["nobody", 3], []])
    def test_none_known_is_an_error(self, users, tiny_run):
        with pytest.raises(InputError, match=r"ids of the run's 60 users, such as 'é0⊗'"):
            recommend(tiny_run, users=users)

    def test_a_file_that_is_no_text_is_an_error(self, tiny_run, tmp_path):
        (tmp_path / "users.txt").write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(InputError, match="UTF-8"):
            recommend(tiny_run, users=tmp_path / "users.txt")

    def test_a_k_below_1_is_an_error(self, tiny_run):
        with pytest.raises(InputError, match="between 1 and the 80 items"):
            recommend(tiny_run, top_k=0)

    def test_a_k_beyond_the_catalogue_is_all_of_it(self, tiny_run):
        assert recommend(tiny_run, top_k=81).lines == recommend(tiny_run, top_k=80).lines


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(main, ["recommend", *map(str, arguments)])

    def test_prints_json_lines(self, tiny_run, everyone):
        result = self.run("--run", tiny_run, "--top-k", 10)
        assert result.exit_code == 0
        assert result.stdout == everyone.read_text(encoding="utf-8")

    def test_writes_a_file_and_counts(self, tiny_run, everyone, tmp_path):
        (tmp_path / "users.txt").write_text("é3⊗\nnobody\n", encoding="utf-8")
        output = tmp_path / "new" / "top.jsonl"
        result = self.run(
            "--run", tiny_run, "--users", tmp_path / "users.txt", "--output", output, "--json"
        )
        assert json.loads(result.stdout) == {
            "users": 1, "items": 20, "unknown": 1, "unknown_items": 0, "output": str(output)
        }  # fmt: skip
        (line,) = read_lines(output)
        top_10 = {**line, "items": line["items"][:10], "scores": line["scores"][:10]}
        assert top_10 in read_lines(everyone)

    def test_user_is_repeatable(self, tiny_run):
        result = self.run("--run", tiny_run, "--user", "é1⊗", "--user", "é2⊗", "--top-k=1")
        assert [json.loads(line)["user"] for line in result.stdout.splitlines()] == ["é1⊗", "é2⊗"]

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("--user", "nobody"), 1),
            (("--output", "top.xml"), 1),
            (("--top-k", "0"), 1),
            (("--json",), 2),
            (("--user", "1", "--users", "f"), 2),
            (("--top-k", "ten"), 2),
        ],
    )
    def test_exit_codes(self, arguments, code, tiny_run):
        result = self.run("--run", tiny_run, *arguments)
        assert result.exit_code == code
        assert "Error: " in result.stderr
        assert "Traceback" not in result.stderr


def test_an_unfinished_run_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"without metrics\.json"):
        autosample_tf.recommend(tmp_path)


def test_a_user_known_from_validation_alone_gets_the_most_popular_unseen_items(
    tmp_path,
) -> None:
    """By `recommend` and by the export, which compares itself with the run."""
    folder = tmp_path / "small"
    folder.mkdir()
    data = with_validation(synthetic(40, 30, mean_pairs=8), 0.2, seed=1)
    for name, split in data.splits.items():
        write_pairs(folder / f"{name}.txt", split)
    with (folder / "valid.txt").open("a") as file:
        file.write("40 1 2 3\n")
    settings = Settings(samplers=("rns",), search_epochs=1, retrain_epochs=1)
    autosample_tf.search(str(folder), settings, run_dir=tmp_path / "run")
    seen = autosample_tf.load(folder).seen
    popular = np.argsort(-seen.popularity, kind="stable")
    unseen = [str(item) for item in popular if item not in (1, 2, 3)][:5]
    ranked = autosample_tf.recommend(tmp_path / "run", users=["40"], top_k=5)
    assert ranked.lines[0]["items"] == unseen
    autosample_tf.export(tmp_path / "run", top_k=5)

"""Files to datasets: what is read, what is mended and counted, what is refused and how."""

from __future__ import annotations

import random

import numpy as np
import pytest

from autosample_tf.errors import InputError
from autosample_tf.reading import formats, lightgcn_format, table_format
from autosample_tf.reading.lightgcn_format import parse
from autosample_tf.reading.table_options import TableOptions
from autosample_tf.splits import hold_out

MARK = b"\xef\xbb\xbf"


def read(path, *, seed=0, name=None, **options):
    return formats.read(path, TableOptions(**options), seed=seed, name=name)


def pairs_of(dataset, split):
    """A split's pairs in original ids."""
    rows = getattr(dataset, split)
    users, items = dataset.user_ids[rows.users], dataset.item_ids[rows.items]
    return set(zip(users.tolist(), items.tolist(), strict=True))


def all_pairs(dataset):
    return pairs_of(dataset, "train") | pairs_of(dataset, "test")


def refusal(path, **options):
    """The one line with which `read` refuses."""
    with pytest.raises(InputError) as raised:
        read(path, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def write_table(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture(params=[1, 7, 1 << 20])
def blocks(request, monkeypatch):
    """Files are read in parts of so many bytes, which may fall within a line or its end."""
    monkeypatch.setattr(lightgcn_format, "_BLOCK", request.param)


class TestLightGCNFolder:
    def test_splits_and_ids(self, write_splits):
        dataset = read(write_splits(train=b"0 1 2\n1 0\n", valid=b"1 2\n", test=b"0 0\n1 1\n"))
        assert pairs_of(dataset, "train") == {("0", "1"), ("0", "2"), ("1", "0")}
        assert pairs_of(dataset, "valid") == {("1", "2")}
        assert pairs_of(dataset, "test") == {("0", "0"), ("1", "1")}
        assert dataset.user_ids.tolist() == ["0", "1"]
        assert dataset.item_ids.tolist() == ["0", "1", "2"]
        assert set(dataset.notes.values()) == {0}

    def test_without_a_valid_file_there_is_no_validation_split(self, write_splits):
        assert read(write_splits(train=b"0 1", test=b"0 2")).valid is None

    def test_ids_with_holes_are_numbered_in_ascending_order(self, write_splits):
        dataset = read(write_splits(train=b"70 9 1000000000000\n5 10\n", test=b"70 10\n6 2\n"))
        assert dataset.user_ids.tolist() == ["5", "6", "70"]
        assert dataset.item_ids.tolist() == ["2", "9", "10", "1000000000000"]
        assert pairs_of(dataset, "train") == {("70", "9"), ("70", "1000000000000"), ("5", "10")}
        assert pairs_of(dataset, "test") == {("70", "10"), ("6", "2")}

    @pytest.mark.parametrize(
        "train",
        [
            pytest.param(b"0 1 2\n1 3\n", id="plain"),
            pytest.param(b"0 1 2\n1 3", id="no last line end"),
            pytest.param(b"0 1 2\r\n1 3\r\n", id="CRLF"),
            pytest.param(b"0 1 2\r1 3\r", id="CR"),
            pytest.param(MARK + b"0 1 2\n1 3\n", id="byte order mark"),
            pytest.param(b"\n\n0 1 2\n\n \n1 3\n\n", id="blank lines"),
            pytest.param(b"0\t1\t2 \n  1  3\t\n", id="tabs and many spaces"),
            pytest.param(b"1 3\n0 2\n0 1\n", id="a user on two lines"),
            pytest.param(b"0 1 2\n1 3\n0\n", id="a user alone"),
            pytest.param(b"00 01 2\n1 0003\n", id="leading zeros"),
        ],
    )
    def test_spellings_of_one_file(self, write_splits, train, blocks):
        dataset = read(write_splits(train=train, test=b"0 3\n"))
        assert pairs_of(dataset, "train") == {("0", "1"), ("0", "2"), ("1", "3")}
        assert dataset.notes["duplicate_pairs"] == 0

    def test_agrees_with_a_line_by_line_oracle(self, tmp_path, blocks):
        draw = random.Random(0)

        def some_ids():
            return [
                draw.randrange(10 ** draw.randrange(1, 19)) for _ in range(draw.randrange(1, 9))
            ]

        lines = [some_ids() for _ in range(500)]
        ends = [draw.choice(["\n", "\r\n", "\n\n", " \n"]) for _ in lines]
        text = "".join(
            " ".join(map(str, line)) + end for line, end in zip(lines, ends, strict=True)
        )
        path = tmp_path / "train.txt"
        path.write_bytes(text.encode())
        parsed = parse(path)
        assert parsed.users.tolist() == [line[0] for line in lines]
        assert parsed.counts.tolist() == [len(line) - 1 for line in lines]
        assert parsed.items.tolist() == [item for line in lines for item in line[1:]]

    def test_users_alone_belong_to_the_catalogue_and_are_counted_in_test(self, write_splits):
        dataset = read(write_splits(train=b"0 1\n3\n", test=b"0 2\n1\n2\n"))
        assert dataset.user_ids.tolist() == ["0", "1", "2", "3"]
        assert dataset.counts()["empty_test_lines"] == 2
        assert dataset.counts()["users_without_train_pairs"] == 3

    def test_duplicates_are_merged_and_counted(self, write_splits):
        dataset = read(write_splits(train=b"0 1 1 2\n0 2\n", test=b"0 3 3\n"))
        assert pairs_of(dataset, "train") == {("0", "1"), ("0", "2")}
        assert dataset.notes["duplicate_pairs"] == 3

    def test_held_out_pairs_that_an_earlier_split_has_are_dropped_and_counted(self, write_splits):
        dataset = read(write_splits(train=b"0 1\n", valid=b"0 1 2\n", test=b"0 1 2 3\n"))
        assert pairs_of(dataset, "valid") == {("0", "2")}
        assert pairs_of(dataset, "test") == {("0", "3")}
        assert dataset.notes["held_out_pairs_in_train"] == 3

    @pytest.mark.parametrize("line", [1, 3])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    @pytest.mark.parametrize(
        ("word", "received", "remedy"),
        [
            (b"-2", "'-2'", "from 0 upwards"),
            (b"2.0", "'2.0'", "as integers"),
            (b"+2", "'+2'", "as integers"),
            (b"1,2", "'1,2'", "as integers"),
            (b"item", "'item'", "as integers"),
            (b"1e5", "'1e5'", "as integers"),
            (b"\xd9\xa3", "'٣'", "as integers"),  # a digit, but not one of ours
            (b"\xff\xfe", r"'\\xff\\xfe'", "as integers"),
            (b"1\x000", r"'1\x000'", "as integers"),
            (b"1234567890123456789", "'1234567890123456789'", "Renumber"),
            (b"9" * 60, "'9999", "Renumber"),
        ],
    )
    def test_a_malformed_line_is_named(
        self, write_splits, word, received, remedy, end, line, blocks
    ):
        before = b"0 1 2" + end + end if line == 3 else b""
        folder = write_splits(train=before + b"1 " + word + b" 3" + end, test=b"0 3\n")
        message = refusal(folder)
        assert message.startswith("Expected a line `user item item …` of non-negative integers")
        assert f"{folder / 'train.txt'}:{line}; received {received}" in message
        assert remedy in message

    def test_a_malformed_test_file_is_named_too(self, write_splits):
        folder = write_splits(train=b"0 1\n", test=b"0 2\nx 3\n")
        assert f"{folder / 'test.txt'}:2; received 'x'" in refusal(folder)

    def test_eighteen_digits_are_read(self, write_splits):
        dataset = read(write_splits(train=b"0 999999999999999999", test=b"0 1"))
        assert pairs_of(dataset, "train") == {("0", "999999999999999999")}

    @pytest.mark.parametrize("train", [b"", b"\n\n", MARK, b"0\n1\n"])
    def test_a_train_file_without_pairs_is_refused(self, write_splits, train):
        assert "Expected train pairs" in refusal(write_splits(train=train, test=b"0 1\n"))

    @pytest.mark.parametrize("test", [b"", b"0\n", b"0 1\n"])
    def test_nothing_held_out_is_refused(self, write_splits, test):
        assert "Expected held-out test pairs" in refusal(write_splits(train=b"0 1\n", test=test))

    def test_a_valid_file_that_is_all_in_train_is_refused(self, write_splits):
        message = refusal(write_splits(train=b"0 1\n", valid=b"0 1\n", test=b"0 2\n"))
        assert "valid.txt; received none. Delete the file" in message

    def test_missing_files_are_named_with_what_is_there(self, write_splits, tmp_path):
        assert "received an empty folder. Put train.txt and test.txt there" in refusal(tmp_path)
        message = refusal(write_splits(train=b"0 1\n", notes=b""))
        assert "received notes.txt, train.txt. Put test.txt there" in message

    def test_a_long_listing_is_cut(self, write_splits):
        folder = write_splits(**{f"part{number}": b"" for number in range(10, 30)})
        assert "part19.txt and 10 more. Put" in refusal(folder)

    def test_columns_are_refused(self, write_splits):
        message = refusal(write_splits(train=b"0 1", test=b"0 2"), item_column="item")
        assert "received item_column='item'" in message

    def test_the_name_is_the_folders(self, write_splits, monkeypatch):
        folder = write_splits(train=b"0 1", test=b"0 2")
        assert read(folder).name == folder.name
        assert read(str(folder), name="mine").name == "mine"
        monkeypatch.chdir(folder)
        assert read(".").name == folder.name


ROWS = [("ann", "10"), ("ann", "9"), ("ann", "x"), ("bob", "10"), ("bob", "9"), ("cyd", "9")]


def table_text(rows, head=("user", "item"), delimiter=",", end="\n"):
    return end.join(delimiter.join(row) for row in [head, *rows]) + end


class TestTable:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            pytest.param("t.csv", table_text(ROWS), id="csv"),
            pytest.param("t.CSV", table_text(ROWS), id="capital extension"),
            pytest.param("t.csv", table_text(ROWS, delimiter=";"), id="semicolons"),
            pytest.param("t.csv", table_text(ROWS, delimiter="\t"), id="tabs in a .csv"),
            pytest.param("t.tsv", table_text(ROWS, delimiter="\t"), id="tsv"),
            pytest.param("t.tsv", table_text(ROWS), id="commas in a .tsv"),
            pytest.param("t.csv", table_text(ROWS, end="\r\n"), id="CRLF"),
            pytest.param("t.csv", table_text(ROWS).rstrip("\n"), id="no last line end"),
            pytest.param("t.csv", MARK + table_text(ROWS).encode(), id="byte order mark"),
            pytest.param("t.csv", "\n\n" + table_text(ROWS, end="\n\n"), id="blank lines"),
            pytest.param("t.csv", table_text(ROWS).replace("ann", '"ann"'), id="quotes"),
            pytest.param(
                "t.inter",
                table_text(ROWS, ("user_id:token", "item_id:token"), "\t"),
                id="RecBole",
            ),
        ],
    )
    def test_spellings_of_one_table(self, write_table, name, text):
        dataset = read(write_table(text, name))
        assert all_pairs(dataset) == set(ROWS)
        assert dataset.user_ids.tolist() == ["ann", "bob", "cyd"]
        assert dataset.item_ids.tolist() == ["10", "9", "x"]  # by code point
        assert dataset.name == "t"

    @pytest.mark.parametrize(
        "head",
        [
            ("user", "item"),
            ("user_id", "item_id"),
            ("userId", "movieId"),
            ("userID", "artistID"),
            ("UID", "iid"),
            ("User ID", "Product-ID"),
            ("reviewerID", "asin"),
        ],
    )
    def test_common_names_of_columns_in_any_order(self, write_table, head):
        rows = [(item, "5", user) for user, item in ROWS]
        text = table_text(rows, (head[1], "rating", head[0]))
        assert all_pairs(read(write_table(text))) == set(ROWS)

    def test_named_columns(self, write_table):
        path = write_table(table_text(ROWS, ("who", "what")))
        assert all_pairs(read(path, user_column="who", item_column="what")) == set(ROWS)

    @pytest.mark.parametrize(
        ("name", "delimiter"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t"), ("t.inter", "\t")]
    )
    def test_columns_named_where_no_line_does(self, write_table, name, delimiter):
        rows = [(user, item, "5.0", "1369699200") for user, item in ROWS]
        text = "\n" + "\n".join(delimiter.join(row) for row in rows)
        columns = "user, item,rating,timestamp"
        dataset = read(write_table(text, name), columns=columns, min_rating=4)
        assert all_pairs(dataset) == set(ROWS)
        with pytest.raises(InputError, match="one column of ratings in"):
            read(write_table(text, name), columns="user,item,x,timestamp", min_rating=4)

    def test_the_names_tell_what_parts_the_values(self, write_table):
        genres = "Action|Adventure|Comedy|Fantasy|Romance"
        text = "\n".join(f"{user},{item},5,{genres}" for user, item in ROWS)
        dataset = read(write_table(text, "t.csv"), columns="user,item,rating,genres")
        assert all_pairs(dataset) == set(ROWS)

    def test_a_row_of_a_table_without_a_header_is_named_by_its_line(self, write_table):
        path = write_table("a,1\nb,2,3\n")
        assert f"rows of 2 columns in UTF-8 text at {path}:2" in refusal(path, columns="user,item")
        path = write_table("a,1\n\n,3\n")
        assert f"an id in every row of {path}:3" in refusal(path, columns="user,item")

    @pytest.mark.parametrize("header", ["user_id,movieId,rating", "u,i,rating"])
    def test_columns_beside_a_header_are_refused(self, write_table, header):
        path = write_table(f"{header}\na,1,5\n")
        message = refusal(path, columns="u,i,rating", user_column="u", item_column="i")
        assert f"received {header.replace(',', ', ')}. Leave --columns out" in message

    def test_a_table_without_a_header_is_pointed_to_columns(self, write_table):
        assert "name them all: --columns user,item" in refusal(write_table("A39H,0205,5.0\n"))

    @pytest.mark.parametrize("columns", ["", "user,,item"])
    def test_columns_without_a_name_are_refused(self, write_table, columns):
        path = write_table("a,1,5\n")
        assert "--columns such as user,item,rating" in refusal(path, columns=columns)

    def test_columns_of_data_that_names_them_are_refused(self, write_table):
        path = write_table('{"user": 1, "item": 2}', "t.jsonl")
        assert "whose columns have names; received columns='user,item'" in refusal(
            path, columns="user,item"
        )
        with pytest.raises(InputError, match="data in memory"):
            formats.read_object({"user": [1], "item": [2]}, TableOptions(columns="user,item"))

    @pytest.mark.parametrize("column", ["who", "who:token"])
    def test_named_columns_of_recbole(self, write_table, column):
        text = table_text(ROWS, ("who:token", "item_id:token"), "\t")
        assert all_pairs(read(write_table(text, "t.inter"), user_column=column)) == set(ROWS)

    def test_integer_ids_are_in_numeric_order(self, write_table):
        rows = [("10", "-1"), ("10", "2"), ("10", "10"), ("9", "7"), ("9", "007"), ("9", "2")]
        dataset = read(write_table(table_text(rows)))
        assert dataset.user_ids.tolist() == ["9", "10"]
        assert dataset.item_ids.tolist() == ["-1", "2", "007", "7", "10"]
        assert all_pairs(dataset) == set(rows)

    def test_ids_are_kept_as_text(self, write_table):
        rows = [("ü,1", "日本"), ("ü,1", "NA"), ("ü,1", "null"), ("ü,1", "1.0"), ("ü,1", "1" * 30)]
        text = table_text([(f'"{user}"', item) for user, item in rows])
        assert all_pairs(read(write_table(text))) == set(rows)

    def test_a_quote_in_recbole_is_a_letter(self, write_table):
        rows = [("u", '"a'), ("u", "b"), ("u", 'c"')]
        text = table_text(rows, ("user_id:token", "item_id:token"), "\t")
        assert all_pairs(read(write_table(text, "t.inter"))) == set(rows)

    def test_duplicates_are_merged_and_counted(self, write_table):
        dataset = read(write_table(table_text(ROWS + ROWS[:2])))
        assert all_pairs(dataset) == set(ROWS)
        assert dataset.counts()["duplicate_pairs"] == 2

    def test_the_split_is_hold_outs(self, write_table):
        rows = [(f"u{user}", f"i{user * item % 17}") for user in range(9) for item in range(12)]
        dataset = read(write_table(table_text(rows)), split_by="random:fraction=0.4", seed=3)
        train, test = hold_out(dataset.train.union(dataset.test), 0.4, seed=3)
        assert np.array_equal(dataset.train.keys, train.keys)
        assert np.array_equal(dataset.test.keys, test.keys)

    def test_the_order_of_rows_changes_nothing(self, write_table):
        rows = [(f"u{user}", f"i{user * item % 17}") for user in range(9) for item in range(12)]
        first = read(write_table(table_text(rows), "first.csv"))
        second = read(write_table(table_text(rows[::-1]), "second.csv"))
        assert first.checksum() == second.checksum()

    def test_a_missing_column_is_refused_with_those_there(self, write_table):
        path = write_table(table_text(ROWS, ("who", "item")))
        message = f"one column of user ids in {path}; received none among the columns who, item"
        assert message in refusal(path)
        assert "'whom'" in refusal(path, user_column="whom")

    def test_two_columns_that_could_be_meant_are_refused(self, write_table):
        path = write_table("user,item_id,movieId\na,1,2\n")
        assert (
            "received 2 among the columns user, item_id, movieId. Name it with --item-column"
        ) in refusal(path)

    def test_one_column_for_both_is_refused(self, write_table):
        path = write_table(table_text(ROWS))
        assert "received 'item' for both" in refusal(path, user_column="item")

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("user", ["", '""', "  "])
    def test_an_empty_id_is_named_by_its_line(self, write_table, user, end):
        # The header is on line 3, and there is a blank line between rows.
        text = end.join(["", "", "user,item", "a,1", "", "b,2", f"{user},3", "a,2"])
        path = write_table(text)
        assert f"an id in every row of {path}:7; received an empty one" in refusal(path)

    def test_lines_are_counted_across_quoted_line_ends(self, write_table):
        path = write_table('user,item,text\na,1,"two\nlines"\n\n,2,x\n')
        assert f"{path}:5" in refusal(path)

    def test_quoted_line_ends_may_fall_anywhere(self, write_table):
        # 3 MB, so that pyarrow's blocks of 1 MB end within a quoted text.
        text = "user,item,text\n" + "".join(f'u,{item},"{"x" * 50}\n"\n' for item in range(50_000))
        dataset = read(write_table(text))
        assert dataset.train.num_pairs + dataset.test.num_pairs == 50_000

    def test_rows_hidden_by_a_quote_are_told(self, write_table, caplog):
        """An opening quote that is none, whose text another one ends four rows later."""
        titles = ["x", '"Heroes', "y", "z", '"Weird Al" Yankovic', "w"]
        rows = [f"u{at},{at},{title}" for at, title in enumerate(titles)]
        rows += [f"v,{at},x" for at in range(9)]
        path = write_table("\n".join(["user,item,title", *rows]) + "\n")
        read(path)
        assert "1 rows of table are of several lines" in caplog.text

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("blank", [0, 1, 2, 5])
    def test_rows_of_several_lines_are_counted_whatever_ends_them(self, write_table, end, blank):
        text = end.join(["user,item,title", "", "a,1,x", f'a,2,"y{end * (1 + blank)}z"', "a,3,x"])
        for before in range(3):
            path = write_table((end * before + text + end * blank).encode())
            assert read(path).notes["rows_of_several_lines"] == 1

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_blank_lines_are_no_rows_of_several(self, write_table, caplog, end):
        for times in (1, 2, 3):
            read(write_table(table_text(ROWS).replace("\n", end * times)))
        assert not caplog.text

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_a_table_without_such_rows_is_read_once(self, write_table, monkeypatch, end):
        """Wherever the parts end in which it is read."""

        class Parts(table_format._Lines):
            def read(self, size):
                return super().read(min(size, 97))

        monkeypatch.setattr(table_format, "_Lines", Parts)
        monkeypatch.setattr(table_format, "_count_long_rows", None)
        rows = [f"a,{item}" for item in range(500)]
        assert read(write_table(end.join(["user,item", *rows]).encode())).num_items == 500

    def test_what_is_warned_of_is_in_the_cache(self, write_table, caplog, monkeypatch, tmp_path):
        monkeypatch.setenv("AUTOSAMPLE_TF_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("autosample_tf.reading.cache._WORTH_KEEPING", 0.0)
        rows = [f"a,{item},x" for item in range(9)]
        path = write_table("\n".join(["user,item,title", 'a,9,"x\ny"', *rows]))
        told = []
        for _ in range(2):
            caplog.clear()
            read(path)
            told.append(caplog.text)
        assert len(list((tmp_path / "cache").iterdir())) == 1
        assert "of several lines" in told[0]
        assert told[0] == told[1]

    def test_a_long_value_is_read(self, write_table):
        """As long as a row may be, blank lines or other errors in the table or not."""
        rows = ["user,item,text", f"a,1,{'x' * 200_000}", "", *(f"a,{at},x" for at in range(9))]
        assert read(write_table("\n".join(rows))).num_items == 9
        assert ":13; received" in refusal(write_table("\n".join([*rows, "a"])))

    def test_spaces_around_ids_are_none_of_them(self, write_table):
        dataset = read(write_table("user, item\na, 1\na,1\n a ,2\na,\t3 \n"))
        assert dataset.user_ids.tolist() == ["a"]
        assert dataset.item_ids.tolist() == ["1", "2", "3"]

    @pytest.mark.parametrize(
        ("again", "options"),
        [
            ("user_id,item_id,5", {}),
            ("\ufeffuser_id,item_id,rating", {}),
            ("user_id,movieId,rating", {}),
            ("user_id,item_id,rating", {"columns": "user,item,rating"}),
        ],
    )
    def test_a_header_among_the_rows_is_refused(self, write_table, again, options):
        first = [] if options else ["user_id,item_id,rating"]
        rows = [*first, "a,1,5", "a,2,5", again, "a,3,5"]
        assert f":{rows.index(again) + 1}; received" in refusal(
            write_table("\n".join(rows)), **options
        )

    def test_words_in_the_first_line_beside_columns_are_a_header(self, write_table):
        path = write_table("customer,sku,stars\na,1,5\na,2,4\n")
        message = refusal(path, columns="user,item,rating")
        assert f"no header, at {path}:1; received customer, sku as a row" in message

    @pytest.mark.parametrize(
        ("row", "received"),
        [
            (b"a,1,2", "got 3: a,1,2"),
            (b"a", "got 1: a"),
            (b"a,\xff", "invalid UTF8"),
            (b'"a,1', 'got 1: "a,1 b,2'),  # a quote without its end
        ],
    )
    def test_a_malformed_row_is_named_by_its_line(self, write_table, row, received):
        path = write_table(b"\nuser,item\na,1\n\n" + row + b"\nb,2\n")
        message = refusal(path)
        assert received in message
        if row != b'"a,1':  # that one goes on to the end of the file
            assert f"{path}:5; received" in message

    def test_a_malformed_row_far_down_is_named_by_its_line(self, write_table):
        rows = [("user", str(item)) for item in range(200_000)]  # several of pyarrow's blocks
        path = write_table(table_text([*rows, ("user",)]))
        assert f"{path}:200002" in refusal(path)

    @pytest.mark.parametrize("text", ["user,item", "user,item\n", "user,item\n\n\n"])
    def test_a_table_without_rows_is_refused(self, write_table, text):
        assert "Expected rows of pairs below the header" in refusal(write_table(text))

    @pytest.mark.parametrize("text", ["", "\n\n"])
    def test_an_empty_file_is_refused(self, write_table, text):
        assert "received an empty file" in refusal(write_table(text))

    @pytest.mark.parametrize("text", ["user,item\n".encode("utf-16"), b"us\xffer,item\n"])
    def test_a_header_that_is_not_utf8_is_refused(self, write_table, text):
        assert "header line in UTF-8" in refusal(write_table(text))

    def test_nobody_to_hold_out_from_is_refused(self, write_table):
        assert "at least 3 pairs" in refusal(write_table(table_text(ROWS[3:])))

    def test_a_fraction_out_of_range_is_refused(self, write_table):
        path = write_table(table_text(ROWS))
        assert "received 1.5" in refusal(path, split_by="random:fraction=1.5")


HEAD = ("user", "item", "rating")
RATED = [("ann", "1", "5"), ("ann", "2", "4.0"), ("ann", "3", "3.9"), ("ann", "4", "-1"),
         ("ann", "5", " 4e0 "), ("bob", "1", "2"), ("bob", "9", "0")]  # fmt: skip


class TestLabels:
    """At 4 ann likes items 1, 2 and 5, and bob, who only dislikes, likes nothing."""

    @pytest.mark.parametrize(
        ("name", "head", "delimiter", "column"),
        [
            ("t.csv", HEAD, ",", "rating"),
            ("t.tsv", HEAD, "\t", "rating"),
            ("t.csv", ("user", "item", "My Rating"), ";", "My Rating"),
            ("t.inter", ("user_id:token", "item_id:token", "rating:float"), "\t", "rating"),
            ("t.inter", ("user_id:token", "item_id:token", "rating:float"), "\t", "rating:float"),
        ],
    )
    def test_part_the_rows(self, write_table, name, head, delimiter, column):
        path = write_table(table_text(RATED, head, delimiter), name)
        dataset = read(path, label_column=column, positive_from=4)
        assert all_pairs(dataset) == {("ann", "1"), ("ann", "2"), ("ann", "5")}
        disliked = {("ann", "3"), ("ann", "4"), ("bob", "1"), ("bob", "9")}
        assert pairs_of(dataset, "given") == disliked
        assert dataset.counts()["given_negatives"] == 4

    def test_who_and_what_only_negatives_have_are_in_the_catalogue(self, write_table):
        dataset = read(write_table(table_text(RATED, HEAD)), label_column="rating", positive_from=4)
        assert dataset.user_ids.tolist() == ["ann", "bob"]
        assert dataset.item_ids.tolist() == ["1", "2", "3", "4", "5", "9"]
        assert dataset.counts()["users_without_train_pairs"] == 1

    def test_are_positive_from_1_where_nothing_else_is_said(self, write_table):
        clicks = [("ann", item, label) for item, label in zip("12345", "10.11", strict=True)]
        clicks[2] = ("ann", "3", ".99")
        dataset = read(write_table(table_text(clicks, HEAD)), label_column="rating")
        assert all_pairs(dataset) == {("ann", "1"), ("ann", "4"), ("ann", "5")}
        assert pairs_of(dataset, "given") == {("ann", "2"), ("ann", "3")}

    def test_columns_may_stand_in_any_order(self, write_table):
        rows = [(label, item, user) for user, item, label in RATED]
        path = write_table(table_text(rows, HEAD[::-1]))
        straight = read(write_table(table_text(RATED, HEAD), "s.csv"), label_column="rating")
        assert read(path, label_column="rating").checksum() == straight.checksum()

    def test_without_a_column_every_row_is_a_positive(self, write_table):
        dataset = read(write_table(table_text([*RATED, ("bob", "7", "x")], HEAD)))
        assert all_pairs(dataset) == {*((user, item) for user, item, _ in RATED), ("bob", "7")}
        assert dataset.given is None
        assert "given_negatives" not in dataset.counts()

    def test_where_all_are_positives_nothing_is_given(self, write_table):
        path = write_table(table_text(RATED, HEAD))
        labelled = read(path, label_column="rating", positive_from=-1)
        assert labelled.given is None
        assert labelled.checksum() == read(path).checksum()

    def test_a_pair_of_both_labels_is_both_held_out_or_not(self, write_table):
        """Ten clicks, each passed over before: whichever is tested on stays given."""
        rows = [("ann", str(item), label) for item in range(10) for label in "01"]
        dataset = read(write_table(table_text(rows, HEAD)), label_column="rating")
        pairs = {("ann", str(item)) for item in range(10)}
        assert all_pairs(dataset) == pairs_of(dataset, "given") == pairs
        assert (dataset.train.num_pairs, dataset.test.num_pairs) == (8, 2)
        assert dataset.counts()["pairs_of_both_labels"] == 10
        assert "duplicate_pairs" not in dataset.counts()

    def test_those_of_a_test_file_are_not_given(self, tmp_path):
        """Training would know what is turned down in the time that is tested on."""
        head, shown = ("user", "item", "label"), [("ann", "1", "1"), ("ann", "2", "0")]
        (tmp_path / "train.csv").write_text(table_text(shown, head))
        later = [("ann", "3", "1"), ("ann", "4", "0"), ("ann", "2", "0")]
        (tmp_path / "test.csv").write_text(table_text(later, head))
        dataset = read(tmp_path, label_column="label")
        assert pairs_of(dataset, "given") == {("ann", "2")}
        assert dataset.notes["given_negatives_held_out"] == 1

    @pytest.mark.parametrize(
        ("rule", "given"),
        [
            # Ann's first pair that is held out is of moment 6, Bob's of 16; all of them's of 14.
            ("leave-last", {("ann", "n1"), ("bob", "n2"), ("bob", "n15")}),
            ("time:since=14,valid=0.1", {("ann", "n1"), ("ann", "n7"), ("bob", "n2")}),
            (
                "random",
                {*(("ann", f"n{m}") for m in (1, 7)), *(("bob", f"n{m}") for m in (2, 15, 19))},
            ),
        ],
    )
    def test_those_after_a_held_out_pair_are_not_given(self, write_table, rule, given):
        liked = [("ann", m) for m in (2, 3, 4, 6, 8)] + [("bob", m) for m in (10, 12, 14, 16, 18)]
        rows = [(user, f"p{m}", "1", str(m)) for user, m in liked]
        shown = [("ann", 1), ("ann", 7), ("bob", 2), ("bob", 15), ("bob", 19)]
        rows += [(user, f"n{m}", "0", str(m)) for user, m in shown]
        path = write_table(table_text(rows, ("user", "item", "label", "time")))
        dataset = read(path, label_column="label", time_column="time", split_by=rule)
        assert pairs_of(dataset, "given") == given
        assert dataset.notes.get("given_negatives_held_out", 0) == 5 - len(given)

    def test_duplicates_are_merged_and_counted_on_either_side(self, write_table):
        rows = [*RATED, *RATED[:2], RATED[3]]
        dataset = read(write_table(table_text(rows, HEAD)), label_column="rating", positive_from=4)
        assert dataset.notes == {"duplicate_pairs": 3, "pairs_of_both_labels": 0}

    @pytest.mark.parametrize("label", ["", "good", "nan", "NaN", "inf", "4,5", "None"])
    def test_what_is_no_number_is_named_by_row_and_column(self, write_table, label):
        rows = [*RATED, ("cyd", "1", f'"{label}"'), ("cyd", "2", "worse")]
        path = write_table(table_text(rows, HEAD))
        message = refusal(path, label_column="rating")
        wanted = f"Expected a number in column 'rating' at {path}:9; received {label!r}. Correct it"
        assert message.startswith(wanted)

    def test_no_positive_at_all_is_refused_with_the_highest_label(self, write_table):
        path = write_table(table_text(RATED, HEAD))
        message = refusal(path, label_column="rating", positive_from=5.5)
        assert "at least 5.5, a positive's, in column 'rating' of table; received at most 5" in (
            message
        )
        assert "Lower --positive-from" in message

    def test_too_few_positives_to_hold_out_from_are_refused(self, write_table):
        path = write_table(table_text(RATED, HEAD))
        assert "at least 3 pairs" in refusal(path, label_column="rating", positive_from=5)

    def test_a_missing_column_is_refused_with_those_there(self, write_table):
        path = write_table(table_text(RATED, HEAD))
        assert (
            f"one column named 'stars' in {path}; received none among the columns user, item, "
            "rating. Name it with --label-column" in refusal(path, label_column="stars")
        )

    @pytest.mark.parametrize("kind", ["user", "item"])
    def test_a_column_of_ids_is_refused(self, write_table, kind):
        message = refusal(write_table(table_text(RATED, HEAD)), label_column=kind)
        assert f"for labels alone; received '{kind}', the {kind} ids" in message

    @pytest.mark.parametrize("least", [0, 3.5])
    def test_a_least_label_without_a_column_is_refused(self, write_table, least):
        path = write_table(table_text(RATED, HEAD))
        assert refusal(path, positive_from=least) == (
            f"Expected --label-column beside --positive-from; received --positive-from {least} "
            "alone. Name the column of labels with --label-column, or leave --positive-from out."
        )

    @pytest.mark.parametrize(
        ("options", "received"),
        [
            ({"label_column": "rating"}, "label_column='rating'"),
            ({"positive_from": 0}, "positive_from=0"),
        ],
    )
    def test_a_folder_has_none(self, write_splits, options, received):
        folder = write_splits(train=b"0 1", test=b"0 2")
        wanted = f"no options of a table with the folder {folder}, which has no columns; received"
        assert f"{wanted} {received}. Leave them out" in refusal(folder, **options)


def test_nothing_at_the_path_is_refused(tmp_path):
    path = tmp_path / "none.csv"
    assert f"received {str(path)!r}, where there is nothing" in refusal(path)


@pytest.mark.parametrize("name", ["data.txt", "data", "data.xlsx", "data.gz"])
def test_an_unknown_extension_is_refused_with_the_known(write_table, name):
    message = refusal(write_table("x", name))
    assert f"{name!r}. Known: .csv, .inter, .jsonl, .ndjson, .parquet, .tsv." in message


@pytest.mark.parametrize(
    ("folder", "users", "items", "train", "valid", "test"),
    [
        ("gowalla", 29_858, 40_981, 810_128, None, 217_242),
        ("yelp2018", 31_668, 38_048, 1_237_259, None, 324_147),
        ("amazon-book-kgat", 70_679, 24_915, 652_514, None, 193_920),
        ("ml-1m-m1", 6_022, 3_043, 796_244, 99_455, 99_455),
        # Of the 91,599 items that its ids leave room for, those that its files have.
        ("amazon-book-from-test", 52_643, 79_292 + 3_337, 483_657, None, 119_721),
        ("amazon-beauty-m1", 7_068, 3_570, 60_818, None, 18_688),
        ("amazon-baby-dens", 4_314, 5_854, 31_567, None, 11_090),
        ("lastfm-lightgcn", 1_880, 4_489, 42_135, None, 10_533),
    ],
)
def test_real_folders(data_root, folder, users, items, train, valid, test):
    dataset = read(data_root / folder)
    splits = {name: split.num_pairs for name, split in dataset.splits.items()}
    wanted = {"train": train, "valid": valid, "test": test}
    assert (dataset.num_users, dataset.num_items) == (users, items)
    assert splits == {name: count for name, count in wanted.items() if count}
    assert dataset.notes["duplicate_pairs"] == dataset.notes["held_out_pairs_in_train"] == 0


def test_real_recbole_file(data_root):
    dataset = read(data_root / "ml-100k" / "ml-100k.inter")
    assert (dataset.num_users, dataset.num_items) == (943, 1_682)
    assert dataset.train.num_pairs + dataset.test.num_pairs == 100_000
    assert dataset.user_ids[[0, -1]].tolist() == ["1", "943"]


def test_real_ratings(data_root):
    """21,201 ratings of 5 and 34,174 of 4, as MovieLens 100K's u.data has them."""
    path = data_root / "ml-100k" / "ml-100k.inter"
    dataset = read(path, label_column="rating", positive_from=4)
    assert (dataset.num_users, dataset.num_items) == (943, 1_682)
    assert dataset.train.num_pairs + dataset.test.num_pairs == 21_201 + 34_174
    assert dataset.given.num_pairs == 100_000 - 21_201 - 34_174


def test_a_real_file_line_by_line(data_root):
    dataset = read(data_root / "amazon-baby-dens")
    lines = (data_root / "amazon-baby-dens" / "train.txt").read_text().splitlines()
    words = [line.split() for line in lines]
    assert pairs_of(dataset, "train") == {(line[0], item) for line in words for item in line[1:]}

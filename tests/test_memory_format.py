"""Data frames, sparse matrices and tf.data are read as the file with their rows is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pytest
from feedback import FORMATS, columns_of, rows_of
from scipy import sparse

import autosample_tf
from autosample_tf.errors import InputError

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

ROWS = rows_of()
COLUMNS = columns_of(ROWS)
OPTIONS = [
    {},
    {"label_column": "rating", "positive_from": 3},
    {"min_rating": 2, "k_core": 2, "split_by": "leave-last"},
]


def frame() -> Any:
    return pandas.DataFrame(COLUMNS)


def dataset() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices({**COLUMNS, "genres": np.zeros((len(ROWS), 3))})


SOURCES: dict[str, Callable[[], Any]] = {
    "columns": lambda: COLUMNS,
    "arrays": lambda: {name: np.array(column) for name, column in COLUMNS.items()},
    "pyarrow": lambda: pyarrow.table(COLUMNS),
    "pandas": frame,
    "pandas, of objects": lambda: frame().astype({"user_id": object}),
    "pandas, of categories": lambda: frame().assign(
        user_id=pandas.Categorical(frame().user_id, categories=[f"u{n}" for n in range(20)][::-1])
    ),
    "pandas, of integers": lambda: frame().astype({"item_id": int}),
    "pandas, of floats": lambda: frame().astype({"item_id": float}),
    "pandas, of dates": lambda: frame().assign(
        timestamp=pandas.to_datetime(frame().timestamp, unit="s")
    ),
    "pandas, of dates with a zone": lambda: frame().assign(
        timestamp=pandas.to_datetime(frame().timestamp, unit="s", utc=True)
    ),
    "pandas, of texts of dates": lambda: frame().assign(
        timestamp=pandas.to_datetime(frame().timestamp, unit="s").astype(str)
    ),
    "pandas, shuffled": lambda: frame().sample(frac=1, random_state=0),
    "polars": lambda: polars.DataFrame(COLUMNS),
    "polars, lazy": lambda: polars.DataFrame(COLUMNS).lazy(),
    "polars, of categories": lambda: polars.DataFrame(COLUMNS).with_columns(
        polars.col("user_id").cast(polars.Categorical)
    ),
    "tf.data": dataset,
    "tf.data of batches": lambda: dataset().batch(7),
}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a .csv file of the rows gives, by option."""
    path = tmp_path_factory.mktemp("file") / "t.csv"
    path.write_bytes(FORMATS[".csv"](ROWS))
    return [autosample_tf.load(path, **options).checksum() for options in OPTIONS]


@pytest.mark.parametrize("source", SOURCES)
def test_is_read_as_the_file_is(source: str, wanted: list[str]) -> None:
    made = SOURCES[source]()
    read = [autosample_tf.load(made, **options) for options in OPTIONS]
    assert [each.checksum() for each in read] == wanted
    assert len({each.time_span for each in read[:2]}) == 1
    assert read[0].time_span == (min(COLUMNS["timestamp"]), max(COLUMNS["timestamp"]))


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_a_sparse_matrix_has_indices_as_ids_and_values_as_ratings(kind: type) -> None:
    values = np.arange(40).reshape(5, 8) % 7  # zeros are no pairs
    dataset = autosample_tf.load(kind(values), min_rating=2)
    rows = dataset.train.union(dataset.test)
    users, items = dataset.user_ids[rows.users], dataset.item_ids[rows.items]
    found = set(zip(map(int, users), map(int, items), strict=True))
    assert found == set(zip(*np.nonzero(values >= 2), strict=True))


def test_entries_that_are_stored_twice_are_their_sum() -> None:
    """As counts are often written; what a conversion to another kind would make of it."""
    users, items = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)
    counted = sparse.coo_matrix((np.ones(48), (np.tile(users, 2), np.tile(items, 2))))
    single = counted.tocsr()
    assert autosample_tf.load(counted, min_rating=2).checksum() == (
        autosample_tf.load(single, min_rating=2).checksum()
    )
    assert counted.nnz == 48


def test_a_stored_zero_is_no_pair() -> None:
    matrix = sparse.csr_matrix(np.ones((4, 6)))
    matrix.data[:3] = 0
    dataset = autosample_tf.load(matrix)
    assert dataset.train.num_pairs + dataset.test.num_pairs == 24 - 3


def test_a_tf_data_of_tuples_is_user_item_rating_time() -> None:
    import tensorflow as tf

    columns = tuple(COLUMNS[name] for name in ("user_id", "item_id", "rating", "timestamp"))
    whole = autosample_tf.load(tf.data.Dataset.from_tensor_slices(columns), min_rating=3)
    assert whole.checksum() == autosample_tf.load(COLUMNS, min_rating=3).checksum()
    pairs = tf.data.Dataset.from_tensor_slices(columns[:2])
    assert autosample_tf.load(pairs).checksum() == autosample_tf.load(COLUMNS).checksum()


def nested() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensors({"user": {"id": [1]}, "item": [2]})


def test_a_frame_can_be_searched() -> None:
    data = autosample_tf.load(frame(), user_column="user_id", seed=3)
    assert data.name == "dataframe"
    assert data.user_ids[0] == "u0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataset().repeat(), "an end of the .*; received an infinite one"),
        (lambda: dataset().take(0), "rows of pairs in the .*; received none"),
        (lambda: frame().iloc[:0], "rows of pairs in the DataFrame given; received none"),
        (lambda: frame().rename(columns={"user_id": "who"}), "none among the columns who, item"),
        (lambda: frame().assign(user_id=None), "an id in every row of row 0 of the DataFrame"),
        (lambda: {"user": ["a", 1], "item": [1, 2]}, "columns of one length, and of one type each"),
        (lambda: {"user": ["a"], "item": [1, 2]}, "columns of one length, and of one type each"),
        (lambda: {"user": [[1], [2]], "item": [1, 2]}, "ids that have a text in column 'user'"),
        (lambda: {"user": [1.0, np.nan], "item": [1, 2]}, "row 1 of the dict given; received an"),
        (
            nested,
            "one value a row in the",
        ),
        (lambda: sparse.csr_matrix((3, 3)), "rows of pairs in the csr_matrix given; received none"),
        (lambda: 5, "a dataset's name, a path, a data frame.*; received 5 of type int"),
    ],
)
def test_what_cannot_be_read_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        autosample_tf.load(make())


def test_a_sparse_matrix_has_no_columns_to_name() -> None:
    with pytest.raises(InputError, match="the csr_matrix given, which has no columns; received"):
        autosample_tf.load(sparse.csr_matrix(np.ones((4, 6))), user_column="user")


def test_a_pair_that_is_stored_more_often_than_its_type_counts_is_there() -> None:
    """256 times 1 are 0 in 8 bits."""
    dense = np.ones((2, 4), np.uint8)
    users, items = np.nonzero(dense)
    stored = np.r_[np.ones(8, np.uint8), np.ones(255, np.uint8)]
    often = np.zeros(255, int)
    matrix = sparse.coo_matrix((stored, (np.r_[users, often], np.r_[items, often])), shape=(2, 4))
    assert (
        autosample_tf.load(matrix).seen.num_pairs + autosample_tf.load(matrix).test.num_pairs == 8
    )


@pytest.mark.parametrize("kind", [sparse.dok_matrix, sparse.dok_array])
def test_a_dictionary_of_keys_is_a_sparse_matrix(kind: Any) -> None:
    dense = np.tri(4, 6, 3)
    of_keys, of_rows = (autosample_tf.load(made(dense)) for made in (kind, sparse.csr_matrix))
    assert of_keys.checksum() == of_rows.checksum()

"""The peak memory of a search on so many users: `python sharded_memory.py USERS FOLDER WAY`.

A process of its own, whose peak is its own. WAY is `streamed` or `in-memory`. Writes the
records itself, 100 items for each user of 10,000: what Beam needs is not asked here.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from autosample_tf import Settings, search
from autosample_tf.interactions import Dataset
from autosample_tf.reading.sharded import RECORDS, read_sharded
from autosample_tf.reading.sharding import Request, write_summary
from autosample_tf.reading.table_options import TableOptions

NUM_ITEMS, ITEMS_OF_A_USER, NUM_FILES = 10_000, 100, 8
SETTINGS = Settings(
    dim=4, samplers=("rns", "dns:pool=32"), objective="validation", drop_warmup=0,
    search_epochs=1, retrain_epochs=0, time_samplers=False, batch_size=2048,
)  # fmt: skip


def write_records(folder: Path, num_users: int) -> None:
    rng = np.random.default_rng(0)
    writers = [
        tf.io.TFRecordWriter(str(folder / f"pairs-users.tfrecord-{number}"))
        for number in range(NUM_FILES)
    ]
    for user in range(num_users):
        items = np.unique(rng.integers(0, NUM_ITEMS, ITEMS_OF_A_USER))
        parts = {"train": items[2:], "valid": items[:1], "test": items[1:2], "user": [user]}
        feature = {
            name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
            for name, values in parts.items()
        }
        text = tf.train.BytesList(value=[str(user).encode()])
        feature["user_id"] = tf.train.Feature(bytes_list=text)
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writers[user % NUM_FILES].write(example.SerializeToString())
    for writer in writers:
        writer.close()


def peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    num_users, folder, way = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if not folder.exists():
        (folder / RECORDS).mkdir(parents=True)
        write_records(folder / RECORDS, num_users)
        request = Request((), TableOptions(), 0.1, 0)
        write_summary(folder, "made", [str(item) for item in range(NUM_ITEMS)], request, 200)
    source: str | Dataset = str(folder)
    if way == "in-memory":
        data = read_sharded(folder)
        splits = {name: pairs.in_memory() for name, pairs in data.splits.items()}
        source = Dataset("made", user_ids=data.user_ids, item_ids=data.item_ids, **splits)
    search(source, SETTINGS, run_dir=folder.parent / f"run-{way}-{num_users}")
    print(peak())

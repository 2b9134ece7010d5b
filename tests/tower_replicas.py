"""Steps of two towers on two replicas against the same on one; run by `test_two_tower.py`.

Prints one JSON object: the largest difference of the tables, between the replicas' caches, and
how far the tables moved.
"""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from towers import table_towers, tables_of, toy_examples  # noqa: E402

from autosample_tf.autosample import AutoSample  # noqa: E402
from autosample_tf.pipeline import padded_batches  # noqa: E402


def trained(strategy: tf.distribute.Strategy) -> tuple[np.ndarray, np.ndarray, float]:
    """The tables before and after an epoch, and how far the replicas' caches are apart."""
    with strategy.scope():
        towers = table_towers(cache_steps=2)
        autosample = AutoSample(
            towers,
            samplers=["rns", "dns:pool=6", "mixgcf:pool=6"],
            objective="validation",
            validation=towers.train,
            l2=0.1,
        )
        autosample.compile(tf.keras.optimizers.SGD(0.5, jit_compile=False))
    before = np.concatenate(tables_of(towers))
    autosample.fit(padded_batches(toy_examples(), 8), verbose=0)
    copies = [copy.numpy() for copy in getattr(towers.cache, "values", [towers.cache])]
    return before, np.concatenate(tables_of(towers)), float(np.abs(copies[0] - copies[-1]).max())


def main() -> None:
    before, one, _ = trained(tf.distribute.get_strategy())
    both = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    _, two, caches_apart = trained(both)
    told = {
        "moved": float(np.abs(one - before).max()),
        "apart": float(np.abs(one - two).max()),
        "caches_apart": caches_apart,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

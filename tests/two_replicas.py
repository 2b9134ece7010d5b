"""A step on two replicas against the same step on one; run by `test_autosample.py`.

Prints one JSON object: for each model and objective the largest difference of the
parameters, the logits and the loss, and how far the parameters moved at all.
"""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from worlds import toy_held_out, toy_model, toy_train  # noqa: E402

from autosample_tf.autosample import AutoSample  # noqa: E402
from autosample_tf.pipeline import training_batches  # noqa: E402

SAMPLERS = ["rns", "dns:pool=6", "mixgcf:pool=6"]
CASES = ["mf/joint", "mf/validation", "lightgcn/joint"]


def step(strategy: tf.distribute.Strategy, kind: str, objective: str) -> dict[str, np.ndarray]:
    """The state after one step of eight rows."""
    sgd = tf.keras.optimizers.SGD
    with strategy.scope():
        model = toy_model(kind)
        autosample = AutoSample(
            model,
            toy_train(),
            samplers=SAMPLERS,
            objective=objective,
            validation=toy_held_out(),
            l2=0.1,
            logits_optimizer=sgd(0.5, jit_compile=False),
        )
        autosample.compile(sgd(0.5, jit_compile=False))
    batches = training_batches(toy_train(), 8, seed=0)
    history = autosample.fit(batches, steps_per_epoch=1, verbose=0).history
    return {
        "parameters": np.concatenate([model.user_table.numpy(), model.item_table.numpy()]),
        "logits": autosample.logits.numpy(),
        "loss": np.asarray(history["loss"]),
    }


def main() -> None:
    both = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    differences = {}
    for name in CASES:
        kind, objective = name.split("/")
        begin = toy_model(kind)
        tables = np.concatenate([begin.user_table.numpy(), begin.item_table.numpy()])
        one = step(tf.distribute.get_strategy(), kind, objective)
        two = step(both, kind, objective)
        case = {part: float(np.abs(one[part] - two[part]).max()) for part in one}
        case["moved"] = float(np.abs(one["parameters"] - tables).max())
        differences[name] = case
    print(json.dumps(differences))


if __name__ == "__main__":
    main()

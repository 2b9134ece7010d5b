"""Steps on two replicas against the same steps on one; run by `test_autosample.py`.

Its arguments are names of `CASES`. Prints one JSON object: for each of them the largest
difference of the parameters, the logits, the loss and the samplers' variables, those of the
replicas' copies of a sampler's state, and how far the parameters and the least moved of the
samplers' variables moved at all.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from worlds import toy_held_out, toy_model, toy_train  # noqa: E402

from autosample_tf.autosample import AutoSample  # noqa: E402
from autosample_tf.interactions import Pairs  # noqa: E402
from autosample_tf.models import MF, NGCF  # noqa: E402
from autosample_tf.pipeline import training_batches  # noqa: E402
from autosample_tf.reading.sharding import write_sharded  # noqa: E402
from autosample_tf.reading.table_options import TableOptions  # noqa: E402
from autosample_tf.streaming import streamed_batches  # noqa: E402

SAMPLERS = (
    "rns",
    "dns:pool=6",
    "mixgcf:pool=6",
    "dens:pool=6",
    "nscaching:cache=4,random=6",
    "srns:memory=4,random=6",
    "adasir:pool=6,resample=4,n=3",
    "kbgan:pool=6,dim=3,rate=0.5",
    "irgan:dim=3",
    "self-adversarial:pool=6",
)


class Case(NamedTuple):
    """What a step is of: a model, an objective, candidates, a loss, where pairs are, and how many
    steps Keras is to run at once."""

    kind: str
    objective: str
    samplers: tuple[str, ...]
    loss: str = "bpr"
    streamed: bool = False
    at_once: int = 2


CASES = {
    "mf/joint": Case("mf", "joint", SAMPLERS),
    "mf/validation": Case("mf", "validation", SAMPLERS),
    "lightgcn/joint": Case("lightgcn", "joint", SAMPLERS),
    "ngcf/joint": Case("ngcf", "joint", ("rns", "kbgan:pool=6,dim=3,rate=0.5")),
    "mf/in-batch-softmax": Case("mf", "uniform", ("in-batch:n=1",), "in-batch-softmax"),
    "mf/streamed": Case(
        "mf",
        "validation",
        ("rns", "dns:pool=6", "kbgan:pool=6,dim=3,rate=0.5"),
        streamed=True,
        at_once=1,
    ),
}


def flat(values: Iterable[tf.Tensor]) -> np.ndarray:
    each = [np.ravel(value.numpy()).astype(np.float64) for value in values]
    return np.concatenate([np.zeros(0), *each])


def samplers_variables(autosample: AutoSample) -> list[tf.Variable]:
    return [variable for sampler in autosample.samplers for variable in sampler.variables]


def copies_apart(variables: list[tf.Variable]) -> float:
    """How far the replicas' copies of any variable are apart."""
    copies = [variable.values for variable in variables if hasattr(variable, "values")]
    return max((float(np.abs(flat(each[:1]) - flat(each[1:])).max()) for each in copies), default=0)


def beginning(case: Case, pairs: Pairs) -> MF:
    """The model before a step; of NGCF a fifth drops out, on both replicas the same."""
    if case.kind == "ngcf":
        dropout = {"node_dropout": 0.2, "message_dropout": 0.2}
        return NGCF(toy_train(), layers=2, dim=4, init_scale=0.7, **dropout)
    if case.streamed:  # a user without pairs is in no file
        return MF(pairs.num_users, pairs.num_items, dim=4, init_scale=0.7)
    return toy_model(case.kind)


class Data(NamedTuple):
    """What is trained on, what is held out, and batches of eight of the first."""

    train: Pairs
    held_out: Pairs
    batches: tf.data.Dataset


def in_memory() -> Data:
    """The toy world."""
    return Data(toy_train(), toy_held_out(), training_batches(toy_train(), 8, seed=0))


def streamed(folder: Path) -> Data:
    """Its train pairs, split anew into files in the folder."""
    pairs = toy_train()
    rows = [f"{user},{item}" for user, item in zip(pairs.users, pairs.items, strict=True)]
    (folder / "pairs.csv").write_text("\n".join(["user,item", *rows]), encoding="utf-8")
    sharded = write_sharded(str(folder / "pairs.csv"), folder / "shards", TableOptions())
    return Data(sharded.train, sharded.valid, streamed_batches(sharded.train, 8, seed=0))


def steps(strategy: tf.distribute.Strategy, case: Case, data: Data) -> dict[str, np.ndarray]:
    """The state after two steps of eight rows."""
    sgd = tf.keras.optimizers.SGD
    with strategy.scope():
        model = beginning(case, data.train)
        autosample = AutoSample(
            model,
            data.train,
            samplers=case.samplers,
            objective=case.objective,
            loss=case.loss,
            validation=data.held_out.sample(16),
            l2=0.1,
            logits_optimizer=sgd(0.5, jit_compile=False),
            sampler_optimizer=sgd(0.5, jit_compile=False),
        )
        autosample.compile(sgd(0.5, jit_compile=False), steps_per_execution=case.at_once)
    own = samplers_variables(autosample)
    begin = [flat([variable]) for variable in own]
    history = autosample.fit(data.batches, steps_per_epoch=2, verbose=0).history
    evaluated = autosample.evaluate(data.batches, steps=2, verbose=0)
    moved = [np.abs(flat([after]) - before).max() for after, before in zip(own, begin, strict=True)]
    return {
        "parameters": np.concatenate([model.user_table.numpy(), model.item_table.numpy()]),
        "logits": autosample.logits.numpy(),
        "loss": np.asarray([*history["loss"], evaluated]),
        "logs": np.asarray([history[name][0] for name in sorted(history) if "/" in name]),
        "samplers": flat(own),
        "samplers_moved": np.asarray(min(moved, default=np.inf)),
        "copies": np.asarray(copies_apart(own)),
    }


def main(*names: str) -> None:
    both = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    differences = {}
    for name in names:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            data = streamed(Path(folder)) if case.streamed else in_memory()
            begin = beginning(case, data.train)
            tables = np.concatenate([begin.user_table.numpy(), begin.item_table.numpy()])
            one = steps(tf.distribute.get_strategy(), case, data)
            two = steps(both, case, data)
        found = {part: float(np.abs(one[part] - two[part]).max(initial=0)) for part in one}
        found["samplers_moved"] = float(one["samplers_moved"])
        found["moved"] = float(np.abs(one["parameters"] - tables).max())
        differences[name] = found
    print(json.dumps(differences))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Steps on two replicas against the same steps on one; run by `test_autosample.py`.

Prints one JSON object: for each model and objective the largest difference of the
parameters, the logits, the loss and the samplers' variables, those of the replicas' copies
of a sampler's state, and how far the parameters and the least moved of the samplers'
variables moved at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from worlds import toy_held_out, toy_model, toy_train  # noqa: E402

from autosample_tf.autosample import AutoSample  # noqa: E402
from autosample_tf.models import MF, NGCF  # noqa: E402
from autosample_tf.pipeline import training_batches  # noqa: E402

SAMPLERS = [
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
]


class Case(NamedTuple):
    """What a step is of: a model, an objective, candidates and a loss."""

    kind: str
    objective: str
    samplers: list[str]
    loss: str = "bpr"


CASES = {
    "mf/joint": Case("mf", "joint", SAMPLERS),
    "mf/validation": Case("mf", "validation", SAMPLERS),
    "lightgcn/joint": Case("lightgcn", "joint", SAMPLERS),
    "ngcf/joint": Case("ngcf", "joint", ["rns", "kbgan:pool=6,dim=3,rate=0.5"]),
    "mf/in-batch-softmax": Case("mf", "uniform", ["in-batch:n=1"], "in-batch-softmax"),
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


def beginning(kind: str) -> MF:
    """The model before a step; of NGCF a fifth drops out, on both replicas the same."""
    if kind == "ngcf":
        dropout = {"node_dropout": 0.2, "message_dropout": 0.2}
        return NGCF(toy_train(), layers=2, dim=4, init_scale=0.7, **dropout)
    return toy_model(kind)


def steps(strategy: tf.distribute.Strategy, case: Case) -> dict[str, np.ndarray]:
    """The state after two steps of eight rows."""
    sgd = tf.keras.optimizers.SGD
    with strategy.scope():
        model = beginning(case.kind)
        autosample = AutoSample(
            model,
            toy_train(),
            samplers=case.samplers,
            objective=case.objective,
            loss=case.loss,
            validation=toy_held_out(),
            l2=0.1,
            logits_optimizer=sgd(0.5, jit_compile=False),
            sampler_optimizer=sgd(0.5, jit_compile=False),
        )
        autosample.compile(sgd(0.5, jit_compile=False), steps_per_execution=2)
    own = samplers_variables(autosample)
    begin = [flat([variable]) for variable in own]
    batches = training_batches(toy_train(), 8, seed=0)
    history = autosample.fit(batches, steps_per_epoch=2, verbose=0).history
    moved = [np.abs(flat([after]) - before).max() for after, before in zip(own, begin, strict=True)]
    return {
        "parameters": np.concatenate([model.user_table.numpy(), model.item_table.numpy()]),
        "logits": autosample.logits.numpy(),
        "loss": np.asarray(history["loss"]),
        "samplers": flat(own),
        "samplers_moved": np.asarray(min(moved, default=np.inf)),
        "copies": np.asarray(copies_apart(own)),
    }


def main() -> None:
    both = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    differences = {}
    for name, case in CASES.items():
        begin = beginning(case.kind)
        tables = np.concatenate([begin.user_table.numpy(), begin.item_table.numpy()])
        one = steps(tf.distribute.get_strategy(), case)
        two = steps(both, case)
        found = {part: float(np.abs(one[part] - two[part]).max(initial=0)) for part in one}
        found["samplers_moved"] = float(one["samplers_moved"])
        found["moved"] = float(np.abs(one["parameters"] - tables).max())
        differences[name] = found
    print(json.dumps(differences))


if __name__ == "__main__":
    main()

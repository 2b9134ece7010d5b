"""The device that a command computes on, chosen before TensorFlow begins."""

from __future__ import annotations

import os
import re
from typing import Any

from autosample_tf.errors import expected

KNOWN = "auto, cpu, gpu or gpu:N, counted from 0"


def use_device(name: str) -> None:
    """Hides every other device from TensorFlow, which must not have begun yet.

    Nothing falls back to another device: whoever asks for a GPU wants to know that there is
    none.

    Args:
      name: `auto`, TensorFlow's own choice: the first GPU where it sees one; `cpu`; `gpu`,
        the first one; or `gpu:N`.

    Raises:
      InputError: for another name, a GPU that TensorFlow does not see, or a TensorFlow that
        has begun with other devices.
    """
    parsed = re.fullmatch(r"auto|cpu|gpu(?::(\d+))?", name)
    if not parsed:
        raise expected(f"--device {KNOWN}", received=repr(name), remedy="Name one of them.")
    if name == "auto":
        return
    import tensorflow as tf

    chosen = [] if name == "cpu" else [_gpu(name, int(parsed[1] or 0))]
    try:
        tf.config.set_visible_devices(chosen, "GPU")
    except RuntimeError as error:
        raise expected(
            f"to choose {name} before TensorFlow begins",
            received="a process in which it has",
            remedy="Start another one.",
        ) from error


def in_use() -> dict[str, Any]:
    """What is computed on, as `config.json` has it: devices, and TensorFlow's threads within an
    operation and for operations side by side, where 0 is its own choice."""
    import tensorflow as tf

    threads = tf.config.threading
    return {
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "intra_op_threads": threads.get_intra_op_parallelism_threads()
        or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)),
        "inter_op_threads": threads.get_inter_op_parallelism_threads()
        or int(os.environ.get("TF_NUM_INTEROP_THREADS", 0)),
    }


def _gpu(name: str, place: int) -> object:
    """The physical device of that place."""
    import tensorflow as tf

    seen = tf.config.list_physical_devices("GPU")
    if place < len(seen):
        return seen[place]
    there = ", ".join(f"gpu:{n}" for n in range(len(seen)))
    raise expected(
        f"{name} to be there",
        received=f"a TensorFlow that sees {there or 'no GPU'}",
        remedy="`autosample-tf doctor` tells why; choose another --device, or cpu.",
    )

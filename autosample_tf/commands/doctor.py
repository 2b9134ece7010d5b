"""What this installation consists of, what is wrong with it, and how to mend it.

Each check is a small function that tells what it found; none of them raises, for the
installation that needs this most is one where something raises.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path

from autosample_tf.installed import installed_version

# As in pyproject.toml, which a test compares: at least the first, below the second.
REQUIREMENTS: dict[str, tuple[str, str | None]] = {
    "click": ("8.1", "9"),
    "filelock": ("3.12", "5"),
    "importlib_resources": ("6", None),
    "matplotlib": ("3.8", "4"),
    "numpy": ("1.26", "3"),
    "orjson": ("3.10", "4"),
    "pyarrow": ("17", None),
    "PyYAML": ("6", "7"),
    "requests": ("2.31", "3"),
    "rich": ("13", "16"),
    "scipy": ("1.11", "2"),
    "tensorboard": ("2.21", "2.22"),
    "tensorflow": ("2.21", "2.22"),
    "tensorflow-datasets": ("4.9.9", "5"),
    "tensorflow-recommenders": ("0.7.7", "0.8"),
    "tf_keras": ("2.21", "2.22"),
}
_PYTHON = ("3.10", "3.14")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
      what: its name.
      found: what is there.
      remedy: how to mend it; None: nothing is wrong.
    """

    what: str
    found: str
    remedy: str | None = None


def examine() -> list[Finding]:
    """Everything looked at, in the order in which to mend it."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _intruders,
        _imports,
        _keras,
        _devices,
        _data,
    )
    return [finding for check in checks for finding in _findings(check)]


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check's findings; what it raises is one of them."""
    try:
        yield from check()
    except Exception as error:
        what = check.__name__.strip("_")
        yield Finding(what, _one_line(error), "Mend what is named above, then look again.")


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    wanted = None if _within(version, *_PYTHON) else f"Use Python {_range(*_PYTHON)}."
    yield Finding("python", f"{version} on {platform.platform()}", wanted)


def _packages() -> Iterator[Finding]:
    for name, (least, below) in REQUIREMENTS.items():
        install = f'Run `pip install "{name}>={least}{f",<{below}" if below else ""}"`.'
        try:
            version = installed_version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "not installed", install)
            continue
        yield Finding(name, version, None if _within(version, least, below) else install)


def _intruders() -> Iterator[Finding]:
    """Packages that do harm by being there."""
    try:
        version = metadata.version("scann")
    except metadata.PackageNotFoundError:
        return
    yield Finding(
        "scann",
        f"{version}, which TensorFlow Recommenders imports and TensorFlow 2.21 cannot load",
        "Run `pip uninstall scann`.",
    )


def _imports() -> Iterator[Finding]:
    for module in ("tensorflow", "tensorflow_recommenders"):
        try:
            import_module(module)
        except Exception as error:  # a broken binary raises all sorts of things
            yield Finding(f"import {module}", _one_line(error), "Install it anew, see above.")


def _keras() -> Iterator[Finding]:
    import tensorflow as tf

    home = tf.keras.Model.__module__.partition(".")[0]  # neither always tells its version
    if home == "tf_keras":
        yield Finding("tf.keras", "tf_keras, which is Keras 2")
    else:
        yield Finding("tf.keras", f"{home}: Keras 3", "Set TF_USE_LEGACY_KERAS=1 before Python.")


def _devices() -> Iterator[Finding]:
    """The processors that TensorFlow sees, each tried with a product."""
    import tensorflow as tf

    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    yield Finding("threads", f"{threads} of {os.cpu_count()} processors")
    for device in tf.config.list_logical_devices():
        if device.device_type not in ("CPU", "GPU"):
            continue
        try:
            with tf.device(device.name):
                tf.matmul(tf.ones([8, 8]), tf.ones([8, 8])).numpy()
            yield Finding(device.name, "works")
        except Exception as error:
            remedy = "Update its driver, or hide it with CUDA_VISIBLE_DEVICES=-1."
            yield Finding(device.name, _one_line(error), remedy)
    yield _gpus(len(tf.config.list_physical_devices("GPU")))


def _gpus(number: int) -> Finding:
    """How many GPUs TensorFlow sees, and whether it should see more."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if number:
        return Finding("GPU", f"{number}, for --device gpu")
    if hidden is not None:
        return Finding("GPU", f"none: hidden by CUDA_VISIBLE_DEVICES={hidden}")
    if not _NVIDIA_DRIVER.exists():
        return Finding("GPU", "none, and no NVIDIA driver: the CPU computes")
    return Finding(
        "GPU",
        "there is an NVIDIA driver, but TensorFlow sees no GPU",
        'Run `pip install "tensorflow[and-cuda]>=2.21,<2.22"`.',
    )


def _data() -> Iterator[Finding]:
    from autosample_tf.published.facts import DATA_VARIABLE

    folder = os.environ.get(DATA_VARIABLE)
    if folder is None:
        yield Finding(DATA_VARIABLE, "not set; known datasets are looked for under ~/.cache")
    elif Path(folder).expanduser().is_dir():
        yield Finding(DATA_VARIABLE, folder)
    else:
        remedy = "Unset it, or name the folder that has the datasets."
        yield Finding(DATA_VARIABLE, f"{folder}, which is no folder", remedy)


def _within(version: str, least: str, below: str | None) -> bool:
    return _numbers(version) >= _numbers(least) and (
        below is None or _numbers(version) < _numbers(below)
    )


def _range(least: str, below: str) -> str:
    return f"{least} or later, below {below}"


def _numbers(version: str) -> tuple[int, ...]:
    """A release's numbers: `2.21.0rc1` is (2, 21, 0)."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]

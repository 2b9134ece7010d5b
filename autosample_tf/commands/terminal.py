"""The terminal: TensorFlow loaded without its chatter, and where progress goes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

import autosample_tf
from autosample_tf.ops.devices import use_device

RANKING = "ranking"  # work without training

if TYPE_CHECKING:
    from rich.console import Console

    from autosample_tf.commands.progress import Report


@contextmanager
def native_messages_off() -> Iterator[None]:
    """Keeps what TensorFlow's C++ prints while it is loaded off the terminal.

    Its notes on CPUs and CUDA come before any log level is read, so the stream itself is
    closed to them; Python's own errors are raised, not printed, and come through.
    """
    if click.get_current_context().find_root().params.get("debug"):
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextmanager
def chatter_off() -> Iterator[None]:
    """Keeps off the terminal whatever is printed and logged meanwhile, by any package."""
    root = logging.getLogger()
    before = root.handlers[:]
    with (
        native_messages_off(),
        StringIO() as chatter,
        redirect_stdout(chatter),
        redirect_stderr(chatter),
    ):
        try:
            yield
        finally:
            root.handlers[:] = before  # one that was added would go on writing to the chatter


def load_training(work: str, *, device: str = "auto") -> ModuleType:
    """`autosample_tf.training`, with TensorFlow and its devices, quietly.

    Args:
      work: the model that will be trained, or `RANKING`, so that TensorFlow's threads suit it.
      device: what to compute on, see `devices`.

    Raises:
      InputError: if that device is not there.
    """
    autosample_tf.require_keras_2()
    suit_threads(work)
    with native_messages_off():
        import tensorflow as tf

        use_device(device)
        # Else GPUs round what they multiply to 10 bits, and `float32` is none there.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        from autosample_tf import training

        tf.config.list_logical_devices()  # where CUDA says what it lacks
    tf.get_logger().setLevel("ERROR")
    return training


def suit_threads(work: str) -> None:
    """Sets how TensorFlow, which must not have begun, shares a small machine's cores."""
    if work in ("mf", RANKING) and os.cpu_count() == 2:
        # A step of MF is hundreds of short operations: two at a time on a core each take a
        # quarter less than one at a time on both, and so do batches of a ranking. Products with
        # a graph are better cut.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def make_console(quiet: bool) -> Console:
    from rich.console import Console

    # Names of data and folders are text, whatever brackets and colons they have.
    return Console(quiet=quiet, markup=False, emoji=False)


def print_progress(stage: str, epochs: int) -> Report:
    """A `reporter` for `search` and `retrain` from Python: shows what the commands show."""
    from autosample_tf.commands.progress import Report

    return Report(stage, epochs, make_console(quiet=False))


@contextmanager
def reporting(console: Console, run_dir: Path) -> Iterator[Callable[[str, int], Any]]:
    """Makes each stage's report, and gives the terminal back however it ends.

    Before the first it prints what the run's `config.json` says of the data.
    """
    from autosample_tf.commands.progress import Report, print_data

    reports: list[Report] = []

    def report(stage: str, epochs: int) -> Report:
        if not reports:
            print_data(run_dir, console)
        for each in reports:  # Keras ends none where training did with an error
            each.close()
        reports.append(Report(stage, epochs, console))
        return reports[-1]

    try:
        yield report
        if not reports:  # a finished run, resumed
            print_data(run_dir, console)
    finally:
        for each in reports:
            each.close()


@contextmanager
def downloading(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """Makes the report of downloads: a bar each on a terminal, elsewhere a line each."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, size: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=size)
                if not console.is_terminal:
                    told = f" ({size:,} bytes)" if size is not None else ""
                    console.print(f"fetching {name}{told}", highlight=False, soft_wrap=True)
            bars.update(tasks[name], completed=done, total=size)

        yield report

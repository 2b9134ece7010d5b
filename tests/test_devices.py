"""`--device`: what is hidden from TensorFlow, and what is told of a device that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from commands import Command, separately, told_in_one_line
from small_runs import LEAST, flags

from autosample_tf.errors import InputError
from autosample_tf.ops.devices import use_device


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What TensorFlow is told to see, call by call, on a machine of two GPUs."""
    told: list[list[str]] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind} 0", f"{kind} 1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda seen, kind: told.append(seen))
    return told


@pytest.mark.parametrize(
    ("name", "seen"),
    [("auto", []), ("cpu", [[]]), ("gpu", [["GPU 0"]]), ("gpu:0", [["GPU 0"]]),
     ("gpu:1", [["GPU 1"]])],
)  # fmt: skip
def test_the_device_alone_is_left_to_see(
    name: str, seen: list[list[str]], visible: list[list[str]]
) -> None:
    use_device(name)
    assert visible == seen


def test_a_gpu_that_is_not_there_lists_those_that_are(visible: list[list[str]]) -> None:
    with pytest.raises(InputError, match=r"gpu:2 to be there; received .* sees gpu:0, gpu:1\. "):
        use_device("gpu:2")
    assert not visible


@pytest.mark.parametrize("name", ["", "GPU", "gpu:", "gpu:-1", "gpu:x", "cuda", "cpu:1"])
def test_another_name_is_refused(name: str, visible: list[list[str]]) -> None:
    with pytest.raises(InputError, match=r"Expected --device auto, cpu, gpu or gpu:N"):
        use_device(name)
    assert not visible


def test_a_tensorflow_that_has_begun_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, visible: list[list[str]]
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    with pytest.raises(InputError, match="before TensorFlow begins"):
        use_device("gpu:1")


@pytest.mark.parametrize("name", ["search", "retrain", "evaluate", "recommend", "export"])
@pytest.mark.parametrize("device", ["gpu:99", "tpu"])
def test_a_command_ends_in_one_line_and_leaves_no_folder(
    name: str, device: str, tiny_run: Path, small_data: Path, tmp_path: Path, command: Command
) -> None:
    output = tmp_path / "there"
    arguments = {
        "search": ["--dataset", small_data, *flags(LEAST), "--run-dir", output],
        "retrain": ["--run", tiny_run, "--run-dir", output],
        "evaluate": ["--run", tiny_run],
        "recommend": ["--run", tiny_run, "--output", output / "top.jsonl"],
        "export": ["--run", tiny_run, "--output", output],
    }[name]
    line = told_in_one_line(command(name, *arguments, "--device", device))
    assert device in line
    assert "; received " in line
    assert not output.exists()


def test_the_cpu_can_be_asked_for(tiny_run: Path) -> None:
    """In a process of its own: here TensorFlow has begun, perhaps with a GPU."""
    done = separately("evaluate", "--run", tiny_run, "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")

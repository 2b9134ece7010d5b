"""Options in a YAML file: flags win, unknown keys fail, values are checked like flags'."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command

from autosample_tf import training
from autosample_tf.reading.cache import VARIABLE
from autosample_tf.runs import Run
from autosample_tf.settings import MODEL_NAMES, Settings


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def settings_of(
    monkeypatch: pytest.MonkeyPatch, small_data: Path, tmp_path: Path, command: Command
) -> Callable[..., Settings]:
    """The settings that `search …` would begin with."""

    class Begun(Exception):
        pass

    begun: list[Settings] = []

    def begin(source: object, settings: Settings, **_: object) -> None:
        begun.append(settings)
        raise Begun

    def settings_of(*arguments: object) -> Settings:
        run_dir = tmp_path / "run"
        code, _, err = command("search", "--dataset", small_data, "--run-dir", run_dir, *arguments)
        assert (code, "Begun" in err) == (1, True), err
        return begun.pop()

    monkeypatch.setattr(training, "search", begin)
    return settings_of


def test_a_config_file_gives_values_and_flags_win(
    config: Callable[[str], Path], settings_of: Callable[..., Settings]
) -> None:
    path = config(
        "dim: 16\nsearch-epochs: 7\nretrain_epochs: 9\nl2: 1e-3\nrefit: true\n"
        "model: lightgcn\nsampler:\n  - rns\n  - dns:pool=4\ntop-k: [10, 5]\n"
    )
    wanted = Settings(
        model="lightgcn", dim=16, search_epochs=7, retrain_epochs=9, l2=1e-3, refit=True,
        samplers=("rns", "dns:pool=4"), top_k=(10, 5),
    )  # fmt: skip
    assert settings_of("--config", path) == wanted
    assert settings_of("--config", path, "--dim", "8").dim == 8
    assert settings_of("--dim=8", "--config", path).dim == 8
    assert settings_of("--config", path, "--no-refit").refit is False
    assert settings_of("--config", path, "--sampler", "pns").samplers == ("pns",)
    assert settings_of("--config", path, "--top-k", "3").top_k == (3,)


def test_so_does_a_runs_own_config(tmp_path: Path, settings_of: Callable[..., Settings]) -> None:
    ran = Settings(model="ngcf", dim=16, samplers=("rns", "dns:pool=4"), refit=True, top_k=(10, 5))
    path = tmp_path / "config.json"
    told = {"schema_version": 1, "command": "search", "source": None, "settings": ran.to_dict()}
    path.write_text(json.dumps(told), encoding="utf-8")
    assert settings_of("--config", path) == ran
    assert settings_of("--config", path, "--dim", "8").dim == 8


def test_a_runs_own_config_names_its_data(
    tmp_path: Path, small_data: Path, command: Command
) -> None:
    given = ["search", "--dim", 4, "--search-epochs", 1, "--retrain-epochs", 1, "--quiet"]
    assert command(*given, "--dataset", small_data, "--run-dir", tmp_path / "one")[0] == 0
    again = ["--config", tmp_path / "one" / "config.json", "--run-dir", tmp_path / "two"]
    assert command("search", *again, "--quiet")[0] == 0
    one, two = (Run(tmp_path / name).config() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("text", ["", "# nothing\n", "dim:\n", "{}"])
def test_a_config_file_may_leave_all_to_the_defaults(
    text: str, config: Callable[[str], Path], settings_of: Callable[..., Settings]
) -> None:
    assert settings_of("--config", config(text)) == Settings()


def test_one_sampler_needs_no_list(
    config: Callable[[str], Path], settings_of: Callable[..., Settings]
) -> None:
    assert settings_of("--config", config("sampler: dns:pool=4\n")).samplers == ("dns:pool=4",)
    assert settings_of("--config", config("samplers: [rns, pns]\n")).samplers == ("rns", "pns")


@pytest.mark.parametrize("given", ["10,20", "10, 20"])
def test_several_cutoffs(given: str, settings_of: Callable[..., Settings]) -> None:
    assert settings_of("--top-k", given).top_k == (10, 20)


def test_a_config_file_may_name_the_home_folder_and_the_cache(
    config: Callable[[str], Path], small_data: Path, tmp_path: Path, command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(small_data.parent))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    few = "search-epochs: 1\nretrain-epochs: 0\ndim: 2\nsampler: rns\n"
    path = config(f"dataset: ~/{small_data.name}\ncache: off\n{few}")
    code, _, err = command("search", "--config", path, "--run-dir", tmp_path / "run")
    assert code == 0, err
    assert os.environ[VARIABLE] == "off"


@pytest.mark.parametrize("key", ["samplerz", "config", "as_json", "debug", "7"])
def test_an_unknown_config_key_is_refused_and_the_known_are_listed(
    key: str, config: Callable[[str], Path], command: Command
) -> None:
    code, out, err = command("search", "--config", config(f"dim: 8\n{key}: 1\n"))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"Error: Unknown key '?{key}'? in .*\. Known: .*\.\n", err)
    listed = err.rpartition("Known: ")[2].rstrip(".\n").split(", ")
    assert {"dim", "sampler", "top-k", "json", "run-dir", "refit"} <= set(listed)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("dim: [8\n", 1, "Expected YAML in"),
        ("dim: 8\n  l2: 1\n", 1, "Expected YAML in"),
        ("- dim\n", 1, "received list"),
        ("dim\n", 1, "received str"),
        ("dim: 8.7\n", 2, "'8.7' is not a valid integer"),
        ("dim: eight\n", 2, "'eight' is not a valid integer"),
        (f"model: {MODEL_NAMES[0]}x\n", 2, "is not one of"),
        ("dim: 0\n", 1, "--dim at least 1; received 0"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_refused(
    text: str, code: int, told: str, config: Callable[[str], Path], command: Command
) -> None:
    outcome = command("search", "--config", config(text))
    assert (outcome.code, outcome.out) == (code, "")
    assert told in outcome.err


def test_a_config_file_that_is_not_there_is_refused(tmp_path: Path, command: Command) -> None:
    code, _, err = command("search", "--config", tmp_path / "none.yaml")
    assert code == 1
    assert err.startswith("Error: Expected YAML in")
    assert "No such file" in err

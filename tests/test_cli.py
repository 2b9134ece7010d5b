"""The commands do what they say: help, options, a whole run, what they print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from commands import Command, separately
from small_runs import LEAST, WHOLE, fingerprints, flags, without_seconds

import autosample_tf
from autosample_tf.cli import main
from autosample_tf.settings import Settings


def paths(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command with its group's name before it."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, (*path, name))


def stored_settings(run_dir: Path) -> Settings:
    config = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    return Settings.from_dict(config["settings"])


# --- help


@pytest.mark.parametrize("path", [p for p in paths(main) if p != ("data",)])
def test_help_has_an_example_of_the_command(path: tuple[str, ...], command: Command) -> None:
    code, out, err = command(*path, "--help")
    assert (code, err) == (0, "")
    example = out.partition("Example:\n")[2].strip().splitlines()[0]
    assert example.strip().startswith(" ".join(["autosample-tf", *path]))


@pytest.mark.parametrize("path", list(paths(main)))
def test_h_is_help(path: tuple[str, ...], command: Command) -> None:
    assert command(*path, "-h") == command(*path, "--help")


def test_version(command: Command) -> None:
    code, out, _ = command("--version")
    assert (code, out.split()) == (0, ["autosample-tf,", "version", autosample_tf.__version__])


def test_helps_defaults_are_the_settings(command: Command) -> None:
    text = " ".join(command("search", "--help").out.split())
    for flag, name in (("--dim", "dim"), ("--patience", "patience"), ("--seed", "seed")):
        shown = re.search(rf"{flag} INTEGER .*?\[default: \(?([^])]+)", text)[1]
        assert shown == str(getattr(Settings(), name))


# --- options


@pytest.mark.parametrize("path", [p for p in paths(main) if p not in ((), ("data",))])
def test_an_unknown_option_is_a_usage_error_that_names_it(
    path: tuple[str, ...], command: Command
) -> None:
    code, _, err = command(*path, "--nonsense")
    assert code == 2
    assert "No such option" in err
    assert "--nonsense" in err


def test_values_come_after_a_space_or_an_equals_sign(small_data: Path, command: Command) -> None:
    spaced = command("data", "describe", "--dataset", small_data, "--json")
    joined = command("data", "describe", f"--dataset={small_data}", "--json")
    assert spaced == joined
    assert json.loads(spaced.out)["users"] == 60


def test_every_setting_of_search_is_an_option(command: Command) -> None:
    search = main.commands["search"]
    names = {option.name for option in search.params}
    assert set(Settings().to_dict()) <= names


# --- a whole run, from the command line


@pytest.fixture(scope="module")
def commanded(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """`search --json` with `WHOLE`'s settings in another process: folder, stdout, stderr."""
    run_dir = tmp_path_factory.mktemp("commanded") / "run"
    done = separately(
        "search", "--dataset", small_data, *flags(WHOLE), "--run-dir", run_dir, "--json"
    )
    assert done.returncode == 0, done.stderr
    return run_dir, done.stdout, done.stderr


def test_the_command_gives_the_metrics_that_python_gives(
    commanded: tuple[Path, str, str], whole_run: Path
) -> None:
    """To the last bit, from another process: which makes runs reproducible, too."""
    run_dir = commanded[0]
    mine, its = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        for folder in (whole_run, run_dir)
    )
    assert without_seconds(mine) == without_seconds(its)
    assert stored_settings(whole_run) == stored_settings(run_dir)


def test_json_is_the_one_thing_on_stdout_and_nothing_is_on_stderr(
    commanded: tuple[Path, str, str],
) -> None:
    run_dir, out, err = commanded
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    assert json.loads(out) == {"run_dir": str(run_dir), **metrics}
    assert err == ""


def test_a_finished_run_resumes_to_its_table_without_being_told_its_options(
    commanded: tuple[Path, str, str], command: Command
) -> None:
    run_dir = commanded[0]
    before = fingerprints(run_dir)
    code, out, err = command("search", "--resume", "--run-dir", run_dir)
    assert (code, err) == (0, "")
    metrics = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    for name, value in metrics["test"].items():
        row = next(line for line in out.splitlines() if re.search(rf"{name}\b", line))
        assert f"{value:.4f}" in row
        assert f"{metrics['valid'][name]:.4f}" in row
    assert out.splitlines()[-1] == f"run folder: {run_dir}"
    assert fingerprints(run_dir) == before


def test_a_run_prints_the_counts_and_the_checksum_that_it_stores(
    commanded: tuple[Path, str, str], command: Command
) -> None:
    run_dir = commanded[0]
    line = command("search", "--resume", "--run-dir", run_dir).out.splitlines()[0]
    stored = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))["dataset"]
    assert line.startswith(f"{stored['name']}: ")
    assert line.endswith(f"sha256 {stored['sha256']}")
    for name, count in stored["counts"].items():
        assert f"{count:,} {name.replace('_', ' ')}" in line


def test_quiet_prints_nothing(
    commanded: tuple[Path, str, str], tiny_run: Path, command: Command, tmp_path: Path
) -> None:
    assert command("search", "--resume", "--run-dir", commanded[0], "--quiet") == (0, "", "")
    assert command("evaluate", "--run", tiny_run, "--quiet") == (0, "", "")
    output = tmp_path / "top.jsonl"
    assert command("recommend", "--run", tiny_run, "--output", output, "--quiet") == (0, "", "")
    assert output.is_file()


def test_evaluate_prints_the_metrics_as_lines_or_as_json(tiny_run: Path, command: Command) -> None:
    stored = json.loads((tiny_run / "metrics.json").read_text(encoding="utf-8"))
    for split in ("valid", "test"):
        told = json.loads(command("evaluate", "--run", tiny_run, "--split", split, "--json").out)
        assert told == pytest.approx(stored[split], abs=1e-12)
    lines = command("evaluate", "--run", tiny_run).out.splitlines()
    assert lines == [f"test {name} {value:.6f}" for name, value in stored["test"].items()]


# --- the small commands


def test_samplers_lists_the_registered_and_the_standard_set(command: Command) -> None:
    from autosample_tf.samplers import SAMPLERS

    code, out, _ = command("samplers")
    *lines, standard = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == list(SAMPLERS)
    assert len(standard.partition(": ")[2].split()) == len(Settings().samplers)


def test_samplers_tells_of_a_spec(command: Command) -> None:
    out = command("samplers", "dns:pool=16").out
    assert "spec     dns:pool=16" in out
    code, _, err = command("samplers", "dns:width=2")
    assert (code, err) == (1, "Error: Unknown option of sampler 'dns' 'width'. Known: pool.\n")


def test_samplers_tells_of_ones_own(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "from autosample_tf.samplers import Sampler",
        "class Mine(Sampler):",
        "    'All of my own.'",
        "    def __init__(self, depth: int = 1):",
        "        super().__init__()",
        "        self.depth = depth",
    ]
    (tmp_path / "told.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    assert command("samplers", "told:Mine:depth=2").out == "told:Mine:depth=2\n\nAll of my own.\n"


def test_samplers_tells_of_one(command: Command) -> None:
    out = command("samplers", "dns-mn").out
    assert "spec     dns-mn:pool=32,top=5" in out
    assert all(word in out for word in ("formula", "cost", "source", "top=5 ("))


def test_data_list_names_what_search_knows(command: Command) -> None:
    from autosample_tf.catalog import KNOWN

    out = command("data", "list").out
    assert sorted(line.split()[0] for line in out.splitlines()) == sorted(KNOWN)


def test_describe_counts(small_data: Path, command: Command) -> None:
    told = json.loads(command("data", "describe", "--dataset", small_data, "--json").out)
    pairs = [
        sum(len(line.split()) - 1 for line in (small_data / name).read_text().splitlines())
        for name in ("train.txt", "test.txt")
    ]
    assert [told["train"], told["test"]] == pairs
    assert told["density"] == pytest.approx(pairs[0] / 60 / 80)
    out = command("data", "describe", "--dataset", small_data).out
    assert f"{pairs[0]:,}" in out
    assert told["sha256"] in out


def test_a_table_of_another_layout_is_read_by_its_columns_names(
    tmp_path: Path, command: Command
) -> None:
    rows = [f"{item},{user}" for user in "abcd" for item in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["thing,who", *rows]), encoding="utf-8")
    arguments = ["data", "describe", "--dataset", tmp_path / "t.csv", "--json"]
    columns = ["--user-column", "who", "--item-column=thing"]
    assert json.loads(command(*arguments, *columns).out)["users"] == 4


def test_a_search_without_a_dataset_is_on_synthetic(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from autosample_tf import training

    asked = []
    monkeypatch.setattr(training, "search", lambda source, *_, **__: asked.append(source))
    command("search", *flags(LEAST), "--run-dir", tmp_path / "run")
    assert asked == [training.Source("synthetic")]

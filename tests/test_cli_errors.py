"""Bad input ends in one clear line, exit code 1 or 2, and nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, told_in_one_line
from small_runs import LEAST, fingerprints, flags

from autosample_tf.catalog import KNOWN
from autosample_tf.runs import Run
from autosample_tf.samplers import SAMPLERS
from autosample_tf.settings import MODEL_NAMES, OBJECTIVES

# --- usage: exit code 2


@pytest.mark.parametrize(
    ("option", "known"),
    [("--model", MODEL_NAMES), ("--objective", OBJECTIVES), ("--init", ("rewind", "scratch")),
     ("--mixing", ("loss", "instance")), ("--optimizer", ("adam",))],
)  # fmt: skip
def test_an_unknown_choice_is_a_usage_error_that_lists_the_known(
    option: str, known: tuple[str, ...], command: Command
) -> None:
    code, out, err = command("search", option, "nonsense")
    assert (code, out) == (2, "")
    assert "'nonsense' is not one of" in err
    assert all(f"'{name}'" in err for name in known)


@pytest.mark.parametrize(
    "arguments",
    [["search", "--dim", "eight"], ["search", "--top-k", "10;20"], ["search", "--top-k", ""],
     ["search", "--resume"], ["retrain"], ["evaluate"], ["evaluate", "--run", "r", "--split", "x"],
     ["retrain", "--run", "r", "--resume"], ["retrain", "--run", "r", "--sampler", "rns"],
     ["recommend", "--run", "r", "--json"],
     ["recommend", "--run", "r", "--users", "f", "--user", "u"],
     ["nonsense"], ["data", "nonsense"], ["search", "extra"]],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_call_is_a_usage_error(arguments: list[str], command: Command) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("Error: ")


# --- bad data and settings: exit code 1, no run folder


@pytest.fixture
def refused(small_data: Path, tmp_path: Path, command: Command) -> Callable[..., str]:
    """What `search` says of bad input, having left nothing behind."""

    def refuse(*arguments: object, dataset: object = small_data) -> str:
        run_dir = tmp_path / "there" / "run"
        chosen = ["--dataset", dataset, *flags(LEAST), *arguments, "--run-dir", run_dir]
        line = told_in_one_line(command("search", *chosen))
        assert not run_dir.exists()
        assert not run_dir.parent.exists()
        return line

    return refuse


@pytest.mark.parametrize("dataset", ["gowala", ""])
def test_an_unknown_dataset_lists_the_known(dataset: str, refused: Callable[..., str]) -> None:
    line = refused(dataset=dataset)
    assert repr(dataset) in line
    assert ", ".join(sorted(KNOWN)) in line
    assert ("Did you mean 'gowalla'?" in line) == (dataset == "gowala")


@pytest.mark.parametrize("dataset", ["no/such/folder", "clicks.csv"])
def test_a_path_where_there_is_nothing_is_told(dataset: str, refused: Callable[..., str]) -> None:
    assert f"received {dataset!r}, where there is nothing. Check the path." in refused(
        dataset=dataset
    )


def test_an_unknown_sampler_lists_the_known(refused: Callable[..., str]) -> None:
    line = refused("--sampler", "dnz")
    known = ", ".join(sorted(SAMPLERS))
    assert line == f"Error: Unknown sampler 'dnz'. Known: {known}. Did you mean 'dns'?\n"


@pytest.mark.parametrize(
    ("spec", "told"),
    [("dns:depth=2", "Known: pool"), ("dns:pool=x", "received 'x'"), ("dns:pool=0", "received 0"),
     ("rns", "rns twice"), ("no.such:Class", "no.such:Class"), ("json.decoder:loads", "json"),
     ("", "Known: "), ("rns,dns:pool=4", "Repeat --sampler for each"), ("DNS", "mean 'dns'"),
     ("dns-mn:pool=4,top=5", "received"), ("dns:pool=4,pool=8", "pool twice"),
     ("nobodys:Class", "nobodys:Class"), ("ahns:alpha=nan", "received nan"),
     ("ahns:p=inf", "received inf"), ("warp:margin=nan", "received nan"),
     ("softmax-dns:temperature=1e-40", "received 1e-40"),
     ("self-adversarial:alpha=1e39", "received 1e+39"), ("aobpr:mean_rank=1e39", "received")],
)  # fmt: skip
def test_a_sampler_that_cannot_be_built_is_refused(
    spec: str, told: str, refused: Callable[..., str]
) -> None:
    assert told in refused("--sampler", spec)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--dim", 0), ("--layers", 0), ("--search-epochs", 0), ("--retrain-epochs", -1),
     ("--patience", 0), ("--batch-size", 0), ("--learning-rate", 0), ("--learning-rate", "nan"),
     ("--l2", -1), ("--temperature", 0), ("--drop-threshold", 1), ("--drop-threshold", -0.1),
     ("--node-dropout", 1), ("--message-dropout", -0.1),
     ("--valid-fraction", 0), ("--valid-fraction", 1), ("--seed", -1), ("--top-k", 0),
     ("--rewind-epoch", 0), ("--rewind-epoch", 2)],
)  # fmt: skip
def test_a_setting_out_of_range_is_named_with_its_range(
    option: str, value: object, refused: Callable[..., str]
) -> None:
    line = refused(option, value)
    assert line.startswith(f"Error: Expected {option} ")
    assert "; received " in line


@pytest.mark.parametrize(
    "loss", ["hinge:margin=inf", "bpr:temperature=inf", "bpr:temperature=1e-50",
             "ccl:negative_weight=inf"],
)  # fmt: skip
def test_a_losses_option_that_is_no_number_to_compute_with_is_refused(
    loss: str, refused: Callable[..., str]
) -> None:
    assert "finite, and 0 or within 1e-37 and 1e38; received" in refused("--loss", loss)


def test_an_option_that_the_model_has_not_is_told(
    small_data: Path, tmp_path: Path, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["--dataset", small_data, *flags(LEAST), "--run-dir", tmp_path / "run"]
    assert command("search", *arguments, "--node-dropout", 0.3).code == 0
    assert "--node-dropout is of ngcf: mf has none" in caplog.text


def test_a_perceptron_that_cannot_be_built_leaves_no_folder(refused: Callable[..., str]) -> None:
    assert "3 layers and a dim of 10" in refused("--model", "neumf", "--dim", 10, "--layers", 3)


def test_a_loss_that_a_model_cannot_take_is_refused(refused: Callable[..., str]) -> None:
    line = refused("--model", "neumf", "--loss", "in-batch-softmax", "--sampler", "in-batch:n=1")
    assert "derives from models.contract.DotProduct" in line


def test_a_cutoff_above_the_catalogue_is_refused(refused: Callable[..., str]) -> None:
    line = refused("--top-k", "10,81")
    assert "between 1 and the 80 items" in line
    assert "received 81" in line


@pytest.mark.parametrize(
    ("train", "told"),
    [("0 1\n1 2 x\n", "train.txt:2"), ("0 1\n1 -2\n", "train.txt:2"),
     ("0 1\n\n1 2.5\n", "train.txt:3"), ("0 1\nu1 2\n", "train.txt:2"), ("", "received none"),
     ("0\n1\n", "received none"), ("0 3\n1 2\n", "at least 3 pairs")],
)  # fmt: skip
def test_a_train_file_that_cannot_be_used_is_refused_with_file_and_line(
    train: str, told: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "train.txt").write_text(train, encoding="utf-8")
    (folder / "test.txt").write_text("0 1 2\n", encoding="utf-8")
    assert told in refused("--top-k", 1, dataset=folder)


@pytest.mark.parametrize(
    ("test", "told"), [("0\n", "none"), ("", "none"), ("0 1\n", "none that train does not have")]
)
def test_no_held_out_item_for_anyone_is_refused(
    test: str, told: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "train.txt").write_text("0 1 2 3 4\n1 0 2\n", encoding="utf-8")
    (folder / "test.txt").write_text(test, encoding="utf-8")
    assert f"received {told}" in refused("--top-k", 1, dataset=folder)


def test_a_folder_without_its_files_says_what_to_put_there(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "Put train.txt and test.txt there" in refused(dataset=tmp_path / "empty")


def test_a_known_datasets_files_are_asked_for_and_checked(
    small_data: Path,
    tmp_path: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = refused("--data-dir", tmp_path / "none", dataset="gowalla")
    assert "train.txt (810128 pairs, MD5 " in absent
    assert "29858 users" in absent
    assert "./gowalla" not in absent
    (tmp_path / "gowalla").mkdir()
    monkeypatch.chdir(tmp_path)
    absent = refused("--data-dir", tmp_path / "none", dataset="gowalla")
    assert absent.endswith("The folder here is ./gowalla.\n")
    other = refused("--data-dir", small_data, dataset="gowalla")
    assert "whose MD5 is" in other


def test_a_line_with_a_missing_column_is_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "t.csv").write_text("user,item\na,1\nb\n", encoding="utf-8")
    assert "t.csv:3" in refused(dataset=tmp_path / "t.csv")


# --- run folders


@pytest.mark.parametrize("name", ["config.json", "notes.txt"])
def test_a_run_folder_that_exists_is_left_as_it_is(
    name: str, small_data: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    before = fingerprints(tmp_path)
    arguments = ["search", "--dataset", small_data, *flags(LEAST), "--run-dir", tmp_path]
    assert "--resume" in told_in_one_line(command(*arguments))
    assert fingerprints(tmp_path) == before


def test_a_run_folder_that_is_a_file_is_refused(
    small_data: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    arguments = ["search", "--dataset", small_data, *flags(LEAST)]
    told_in_one_line(command(*arguments, "--run-dir", tmp_path / "file"))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_second_process_is_kept_out(small_data: Path, tmp_path: Path, command: Command) -> None:
    arguments = ["search", "--dataset", small_data, *flags(LEAST), "--run-dir", tmp_path / "run"]
    with Run(tmp_path / "run").locked():
        line = told_in_one_line(command(*arguments))
        assert "no other process works in" in line
        assert not fingerprints(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [["evaluate"], ["recommend"], ["export"], ["retrain"], ["search", "--resume"]],
    ids=lambda arguments: arguments[0],
)
def test_a_run_that_is_not_there_is_refused(
    arguments: list[str], tmp_path: Path, command: Command
) -> None:
    flag = "--run-dir" if arguments[0] == "search" else "--run"
    line = told_in_one_line(command(*arguments, flag, tmp_path / "none"))
    assert "a run folder with a config.json" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["evaluate", "recommend", "export", "retrain"])
def test_a_run_that_is_not_finished_is_refused(
    name: str, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "config.json").write_bytes((tiny_run / "config.json").read_bytes())
    extra = ["--run-dir", tmp_path / "new"] if name == "retrain" else []
    line = told_in_one_line(command(name, "--run", tmp_path, *extra))
    assert "Expected a finished" in line
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--top-k", "1000"], "received 1000"),
     (["--init", "rewind", "--rewind-epoch", "2"], "kept, 1"),
     (["--patience", "0"], "--patience"), (["--dataset", "synthetic"], "other data")],
)  # fmt: skip
def test_a_retraining_that_cannot_be_leaves_no_folder(
    arguments: list[str], told: str, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    before = fingerprints(tiny_run)
    run_dir = tmp_path / "new"
    assert told in told_in_one_line(
        command("retrain", "--run", tiny_run, *arguments, "--run-dir", run_dir)
    )
    assert not run_dir.exists()
    assert fingerprints(tiny_run) == before


def test_resuming_with_other_settings_lists_them(tiny_run: Path, command: Command) -> None:
    before = fingerprints(tiny_run)
    arguments = ["search", "--resume", "--run-dir", tiny_run, "--dim", "16", "--sampler", "pns"]
    line = told_in_one_line(command(*arguments))
    assert "settings.dim was 8, is 16; settings.samplers was ['rns', 'dns:pool=8']" in line
    assert "seed" not in line
    line = told_in_one_line(command(*arguments[:4], "--search-epochs", "1"))
    assert "others: settings.search_epochs was 2, is 1. Resume" in line  # not --rewind-epoch
    assert fingerprints(tiny_run) == before


@pytest.fixture(scope="module")
def run_of_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data was made in Python: its `config.json` names none."""
    import autosample_tf

    run_dir = tmp_path_factory.mktemp("python") / "run"
    settings = autosample_tf.Settings(
        samplers=("rns",), dim=4, search_epochs=1, retrain_epochs=1, batch_size=100_000
    )
    autosample_tf.search(autosample_tf.load("synthetic"), settings, run_dir=run_dir)
    return run_dir


@pytest.mark.parametrize(
    "arguments", [["--resume", "--run-dir", "{run}"], ["--config", "{run}/config.json"]]
)
def test_data_that_came_from_python_is_no_other_dataset(
    arguments: list[str], run_of_python: Path, command: Command
) -> None:
    given = [argument.format(run=run_of_python) for argument in arguments]
    line = told_in_one_line(command("search", *given))
    assert f"the run of {run_of_python / 'config.json'} was given from Python" in line
    assert "--dataset" in line


def test_a_setting_that_the_data_lowered_may_be_told_again(
    tmp_path: Path, command: Command
) -> None:
    asked = ["search", "--run-dir", tmp_path / "run", *flags(LEAST)]
    assert command(*asked, "--batch-size", "100000").code == 0
    stored = Run(tmp_path / "run").config()["settings"]["batch_size"]
    assert stored < 100_000
    assert command(*asked, "--batch-size", "100000", "--resume").code == 0
    line = told_in_one_line(command(*asked, "--batch-size", "10", "--resume"))
    assert f"settings.batch_size was {stored}, is 10. Resume" in line

"""What a person sees: a bar that fits the terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import gc
import io
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from rich.console import Console
from small_runs import LEAST

from autosample_tf.commands import progress
from autosample_tf.commands.progress import Report, print_data, print_result
from autosample_tf.commands.terminal import make_console, print_progress
from autosample_tf.runs import Run
from autosample_tf.settings import STANDARD_SET
from autosample_tf.training import search

LOGS = {"loss": 0.69314, "seconds": 1.25, "ndcg@20": 0.12345, "recall@20": 0.5}
LOGS |= {f"weight/{spec}": 1 / len(STANDARD_SET) for spec in STANDARD_SET}


def console(*, terminal: bool, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def text(out: Console) -> str:
    return out.file.getvalue()


def trained(out: Console, **logs: Any) -> Report:
    """A report after 7 steps of the second of 10 epochs of 1,000 steps."""
    report = Report("search", 10, out)
    report.set_params({"steps": 1000})
    report.on_train_begin()
    report.on_epoch_begin(1)
    report.on_train_batch_end(6, {**LOGS, **logs})
    return report


@pytest.mark.parametrize("width", [60, 80, 120, 500])
def test_the_bar_is_one_line_with_the_steps_and_the_time_left_whole(width: int) -> None:
    report = trained(console(terminal=True, width=width))
    report.close()
    out = console(terminal=True, width=width)
    out.print(report._bar.get_renderable())
    (line,) = text(out).splitlines()
    assert re.search(r"search \S+ +1007/10000 steps, left (-:--:--|\d:\d\d:\d\d)", line)
    assert len(line.rstrip()) <= width
    assert ("10 samplers 0.10 each" in line) == (width >= 120)
    assert "loss" in line


def test_the_bar_is_taken_away_at_the_end_and_may_be_twice() -> None:
    report = trained(console(terminal=True))
    assert report._bar.live.is_started
    report.on_train_end()
    report.close()
    assert not report._bar.live.is_started


def test_a_report_that_is_kept_lets_its_model_go() -> None:
    report = trained(console(terminal=False))
    report.set_model(tf.keras.Sequential())
    model = weakref.ref(report.model)
    report.on_train_end()
    gc.collect()
    assert model() is None


def test_elsewhere_there_is_one_plain_line_an_epoch() -> None:
    out = console(terminal=False)
    report = trained(out)
    assert text(out) == ""
    report.on_epoch_end(1, {**LOGS, "dropped/rns": 0.05})
    report.on_train_end()
    line = text(out)
    assert line.count("\n") == 1
    told = "search 2/10  1.2 s  loss 0.6931  ndcg@20 0.1235  10 samplers 0.10 each"
    assert line == f"{told}  dropped rns 0.05\n"
    assert "\x1b" not in line


def test_the_line_says_where_the_learning_rate_fell_and_what_was_gone_back_to() -> None:
    out = console(terminal=False)
    report = trained(out)
    report.on_epoch_end(8, {**LOGS, "lr": 0.003, "back_to": 4})
    report.on_train_end()
    assert text(out).endswith("  10 samplers 0.10 each  back to epoch 4, lr / 5\n")


def test_the_data_is_told_as_the_runs_config_has_it(tmp_path: Path) -> None:
    counts = {"users": 29858, "test_items_never_in_train": 2}
    data = {"name": "gowalla", "counts": counts, "sha256": "ab" * 32}
    Run(tmp_path).start({"dataset": data}, resume=False)
    out = console(terminal=False, width=40)
    print_data(tmp_path, out)
    wanted = f"gowalla: 29,858 users, 2 test items never in train; sha256 {'ab' * 32}\n"
    assert text(out) == f"{wanted}run folder: {tmp_path}\n"


def test_brackets_and_colons_in_names_are_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rich would read the one as markup, the other as an emoji."""
    data = {"name": "x[old]:star:", "counts": {"users": 1}, "sha256": "0"}
    Run(tmp_path).start({"dataset": data}, resume=False)
    print_data(tmp_path, make_console(quiet=False))
    assert "x[old]:star:: 1 users" in capsys.readouterr().out


def test_python_can_have_the_progress_of_the_commands(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(str(small_data), LEAST, run_dir=tmp_path / "run", reporter=print_progress)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines] == ["search 1/1", "retrain 1/1"]


@pytest.mark.parametrize("selected_on", ["valid", "test"])
def test_the_table_says_so_where_epochs_were_chosen_on_test(selected_on: str) -> None:
    metrics = {
        "model": "mf",
        "dataset": "gowalla",
        "selected_on": selected_on,
        "valid": {"ndcg@20": 0.1},
        "test": {"ndcg@20": 0.2},
        "search": {"epochs": 3, "seconds": 2.0, "weights": {"rns": 1.0}},
        "retrain": {"best_epoch": 4, "epochs": 5, "seconds": 1.5, "init": "search"},
    }
    out = console(terminal=False)
    print_result(metrics, out)
    told = "weights and epochs were chosen on test: these figures are optimistic" in text(out)
    assert told == (selected_on == "test")
    assert ("0.1000" in text(out)) == ("valid" in text(out)) == (selected_on == "valid")
    assert "0.2000" in text(out)


@pytest.mark.parametrize("cutoffs", [(20,), (5, 10, 20, 50)])
def test_the_table_shows_every_metric_in_full_at_80_columns(cutoffs: tuple[int, ...]) -> None:
    names = [f"{name}@{k}" for k in cutoffs for name in ("recall", "ndcg", "precision")]
    split = {name: 0.1 + n / 1000 for n, name in enumerate(names)}
    metrics = {
        "model": "mf",
        "dataset": "gowalla",
        "valid": split,
        "test": {name: value / 2 for name, value in split.items()},
        "search": {"epochs": 3, "seconds": 2.0, "weights": {"rns": 0.25, "dns:pool=8": 0.75}},
        "retrain": {"best_epoch": 4, "epochs": 5, "seconds": 1.5, "init": "search"},
    }
    out = console(terminal=False)
    print_result(metrics, out)
    rows = [re.findall(r"[\w@.]+", line) for line in text(out).splitlines()]
    for name in names:
        assert [name, f"{split[name]:.4f}", f"{split[name] / 2:.4f}"] in rows
    assert "weights rns 0.250, dns:pool=8 0.750" in text(out)
    assert "best epoch 4 of 5, 1.5 s, from search" in text(out)


@pytest.mark.parametrize(
    ("best", "told"),
    [("searched", "the searched mixture"), ("equal", "the equal mixture"),
     ("dns:pool=32", "dns:pool=32 alone")],
)  # fmt: skip
def test_the_result_says_what_a_trial_was_for(best: str, told: str) -> None:
    metrics = {
        "model": "mf",
        "dataset": "gowalla",
        "valid": {"ndcg@20": 0.1},
        "test": {"ndcg@20": 0.2},
        "search": {"epochs": 3, "seconds": 2.0, "weights": {"rns": 1.0}},
        "retrain": {"best_epoch": 4, "epochs": 5, "seconds": 1.5, "init": "search",
                    "trial": {"best": best}},
    }  # fmt: skip
    out = console(terminal=False)
    print_result(metrics, out)
    assert f"from search, under {told}\n" in text(out)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"a": 0.25, "b": 0.75}, "b 0.75  a 0.25"),
        (dict.fromkeys("abcdefghij", 0.1), "10 samplers 0.10 each"),
        (dict.fromkeys("abcde", 0.2), "a 0.20  b 0.20  c 0.20  d 0.20  e 0.20"),
        (
            {"a": 0.02, "b": 0.3, "c": 0.2, "d": 0.18, "e": 0.16, "f": 0.1, "g": 0.04},
            "b 0.30  c 0.20  d 0.18  e 0.16  f 0.10  2 others 0.06",
        ),
    ],
)
def test_an_epochs_line_has_the_largest_weights(weights: dict[str, float], told: str) -> None:
    assert progress._weights({f"weight/{name}": value for name, value in weights.items()}) == told

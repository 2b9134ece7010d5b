"""The commands. TensorFlow is imported inside them, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import logging
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import autosample_tf
from autosample_tf import settings as known
from autosample_tf.commands.data import data
from autosample_tf.commands.options import (
    DEFAULTS,
    SETTING_NAMES,
    WholeNumbers,
    chosen_dataset,
    chosen_override,
    chosen_settings,
    chosen_source,
    config_option,
    device_option,
    output_options,
    resumed_options,
    retrain_options,
    source_options,
    was_given,
    whole_search_options,
)
from autosample_tf.commands.terminal import (
    RANKING,
    load_training,
    make_console,
    native_messages_off,
    reporting,
)
from autosample_tf.errors import InputError

log = logging.getLogger("autosample_tf.cli")  # also where it is run as a module

if TYPE_CHECKING:
    from types import ModuleType

    from rich.console import Console

    from autosample_tf.training import Source


class Commands(click.Group):
    """Turns every failure into one line and exit code 1; `--debug` shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own; and `… | head`, at which it ends quietly
        except (Exception, KeyboardInterrupt) as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {_one_line(error, ctx.obj)}", err=True)
            ctx.exit(1)


def _one_line(error: BaseException, resuming: str | None) -> str:
    """What the user is told; an error that is not the input's fault is named, too."""
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted.{f' Go on with: {resuming}' if resuming else ''}"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"Expected leave to read or write {error.filename}; received {error.strerror!r}. "
            "Choose another place (--run-dir, --output), or change who may."
        )
    if isinstance(error, (InputError, OSError, ImportError)):
        return " ".join(str(error).split())
    told = _telling_line(str(error))
    return f"{type(error).__name__}: {told} (`autosample-tf --debug …` shows where)"


_WHERE = ("[[{{node", "Detected at", "File")  # what lines begin with that tell where, not what


def _telling_line(message: str) -> str:
    """The first line, or what TensorFlow says at the end of where in a graph it was."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message"]
    if lines[0].startswith("Graph execution error"):
        said = [line for line in lines[1:] if not line.startswith(_WHERE)]
        return said[-1] if said else lines[0]
    return lines[0]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(autosample_tf.__version__, prog_name="autosample-tf")
@click.option("--debug", is_flag=True, help="Show tracebacks and TensorFlow's own messages.")
def main(debug: bool) -> None:
    """Learns which negative sampler an implicit-feedback recommender needs.

    \b
    Example:
      autosample-tf search
      autosample-tf search --dataset path/to/gowalla --model mf
    """
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors come as exceptions
    sys.path.append(os.getcwd())  # where a sampler's module of one's own may be


main.add_command(data)


@main.command()
@whole_search_options
@click.option("--run-dir", type=click.Path(path_type=Path), help="The run's folder: runs/…")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir.")
@device_option
@output_options
def search(
    run_dir: Path | None, resume: bool, device: str, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Searches the sampler, retrains with it, and tests the model once.

    Without --dataset it runs on `synthetic`, made in code, in under a minute.

    \b
    Example:
      autosample-tf search --dataset gowalla --data-dir data --model mf
      autosample-tf search --dataset clicks.csv --sampler rns --sampler dns:pool=16
    """
    if resume:
        options = resumed_options(run_dir, options)
    console = make_console(quiet or as_json)
    training, source, settings = _asked(options, device)
    run_dir = run_dir or _default_run_dir(_name_of(source), settings.model)
    _goes_on_with("search", run_dir)
    with reporting(console, run_dir) as reporter:
        metrics = training.search(
            source, settings, run_dir=run_dir, resume=resume, reporter=reporter
        )
    _print_end(metrics, run_dir, console, as_json)


@main.command()
@click.option("--run", "searched", required=True, type=click.Path(path_type=Path),
              help="The run whose search to use; it stays as it is.")  # fmt: skip
@config_option
@source_options
@retrain_options(defaults=False)
@click.option("--run-dir", type=click.Path(path_type=Path), help="The new run's folder: runs/…")
@click.option("--resume", is_flag=True, help="Go on with the retraining in --run-dir.")
@device_option
@output_options
def retrain(
    searched: Path, run_dir: Path | None, resume: bool, device: str, as_json: bool, quiet: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Retrains from another run's search, into a run folder of its own.

    \b
    Example:
      autosample-tf retrain --run runs/gowalla-mf --init scratch --seed 1
    """
    if resume:
        options = resumed_options(run_dir, options)
    console = make_console(quiet or as_json)
    from autosample_tf.runs import Run

    config = Run.existing(searched).config()
    training = load_training(config["settings"]["model"], device=device)
    run_dir = run_dir or _default_run_dir(config["dataset"]["name"], config["settings"]["model"])
    _goes_on_with("retrain", run_dir, searched)
    changes = {k: v for k, v in options.items() if k in SETTING_NAMES and v is not None}
    with reporting(console, run_dir) as reporter:
        metrics = training.retrain(
            searched,
            run_dir=run_dir,
            changes=changes,
            source=chosen_override(options),
            resume=resume,
            reporter=reporter,
        )
    _print_end(metrics, run_dir, console, as_json)


@main.command()
@whole_search_options
@click.option("--seeds", type=WholeNumbers(), default="0,1,2", show_default=True,
              help="Each another split, model and order; instead of --seed.")  # fmt: skip
@click.option("--against", multiple=True, metavar="SAMPLER",
              help="What AutoSample is held against, instead of every candidate and their mixture: "
                   "a sampler, and 'uniform mixture' beside one. Repeatable.")  # fmt: skip
@click.option("--run-dir", type=click.Path(path_type=Path), help="The folder: runs/…")
@click.option("--resume", is_flag=True, help="Go on in --run-dir, if wanted with more --seeds.")
@device_option
@output_options
def compare(
    run_dir: Path | None, resume: bool, device: str, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Trains every candidate alone, their mixture, and AutoSample: is the search worth it?

    Everybody gets the same data, seeds and budget. Writes comparison.json, .md and .png, and
    a run folder for every run. Takes as long as all of them together.

    \b
    Example:
      autosample-tf compare --dataset clicks.csv --sampler rns --sampler dns:pool=16 --seeds 0
      autosample-tf compare --dataset clicks.csv --against dns:pool=16 --seeds 0
    """
    if was_given("seed"):
        raise click.UsageError("--seed: a comparison has several, --seeds.")
    if resume:
        options = resumed_options(run_dir, options)
    console = make_console(quiet or as_json)
    _, source, settings = _asked(options, device)
    from autosample_tf.commands.progress import print_outcome
    from autosample_tf.comparison.comparing import compare as run_all
    from autosample_tf.comparison.comparing import contestants
    from autosample_tf.comparison.page import markdown, plot
    from autosample_tf.comparison.processes import search_separately

    run_dir = run_dir or _default_run_dir(f"compare-{_name_of(source)}", settings.model)
    _goes_on_with("compare", run_dir)
    num_runs = len(contestants(settings, options["against"] or None)) * len(options["seeds"])
    console.print(f"folder: {run_dir}, {num_runs} runs", highlight=False, soft_wrap=True)
    found = run_all(
        source, settings, run_dir=run_dir, seeds=options["seeds"],
        against=options["against"] or None, resume=resume,
        on_outcome=lambda outcome: print_outcome(outcome, console),
        runner=functools.partial(search_separately, device=device),
    )  # fmt: skip
    page = markdown(found)
    (run_dir / "comparison.md").write_text(page, encoding="utf-8")
    plot(found, run_dir / "comparison.png")
    console.print(f"\n{page}\nfolder: {run_dir}", highlight=False, soft_wrap=True, markup=False)
    if as_json:
        click.echo(json.dumps({"run_dir": str(run_dir), **found}))


leave_out_test_option = click.option(
    "--leave-out-test", is_flag=True,
    help="Leave out what users have in the test split as well: for what is shown to them.",
)  # fmt: skip
run_option = click.option("--run", required=True, type=click.Path(path_type=Path),
                           help="The run's folder.")  # fmt: skip


@main.command()
@run_option
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@click.option("--top-k", type=WholeNumbers(), show_default="the run's", help="Cutoffs.")
@source_options
@device_option
@output_options
def evaluate(
    run: Path, split: str, top_k: tuple[int, ...] | None, device: str, as_json: bool, quiet: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Recomputes the metrics of a run's model.

    \b
    Example:
      autosample-tf evaluate --run runs/gowalla-mf --split test
    """
    training = load_training(RANKING, device=device)
    source = chosen_override(options)
    metrics = training.evaluate(run, split=split, top_k=top_k, source=source)
    if as_json:
        click.echo(json.dumps(metrics))
    elif not quiet:
        for name, value in metrics.items():
            click.echo(f"{split} {name} {value:.6f}")


@main.command()
@click.argument("name", required=False)
def samplers(name: str | None) -> None:
    """Lists the candidate samplers, or tells of one: a NAME as --sampler takes it.

    \b
    Example:
      autosample-tf samplers dns
    """
    import inspect

    with native_messages_off():
        from autosample_tf.samplers import SAMPLERS, build_sampler
    if name is None:
        standard = {build_sampler(spec).spec for spec in known.STANDARD_SET}
        for own in SAMPLERS.values():
            click.echo(f"{own.card.name:<16} {own.card.formula}")
        click.echo(f"standard set: {' '.join(sorted(standard))}")
        return
    built = build_sampler(name)
    card, text = built.card, inspect.getdoc(type(built)) or ""
    if card is None:  # of one's own, which may have none
        click.echo(f"{built.spec}\n\n{text}".rstrip())
        return
    click.echo(f"{card.name}\n  formula  {card.formula}\n  spec     {built.spec}")
    for option, value in built.options().items():
        told = f" ({card.defaults[option]})" if option in card.defaults else ""
        click.echo(f"  {option}={value}{told}")
    click.echo(f"  cost     {card.cost}\n  source   {card.source}\n\n{text}")


@main.command()
@run_option
@click.option("--users", type=click.Path(path_type=Path),
              help="A file of user ids, one a line. Default: all users.")  # fmt: skip
@click.option("--user", "user_ids", multiple=True, metavar="ID", help="A user id; repeatable.")
@click.option("--top-k", type=int, default=DEFAULTS.top_k[0], show_default=True,
              help="The most items a user gets.")  # fmt: skip
@click.option("--exclude", type=click.Path(path_type=Path),
              help="A file of more to leave out: a table of users and items, as --output writes or "
              "a dataset's; any other: item ids, one a line, for everybody.")  # fmt: skip
@leave_out_test_option
@click.option("--candidates", type=click.Path(path_type=Path),
              help="A file of the item ids to rank, one a line. Default: all items.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path),
              help="A .jsonl, .csv or .parquet file. Default: JSON lines, printed.")  # fmt: skip
@source_options
@device_option
@output_options
def recommend(
    run: Path, users: Path | None, user_ids: tuple[str, ...], top_k: int, exclude: Path | None,
    candidates: Path | None, leave_out_test: bool, output: Path | None, device: str, as_json: bool,
    quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Ranks items for users of a run, those they have in train and validation left out.

    A line is {"user": …, "items": […], "scores": […]}; a row of .csv and .parquet is
    user, item, rank, score. --json prints the counts, and needs --output. Stopped, the same
    command goes on with its file.

    \b
    Example:
      autosample-tf recommend --run runs/gowalla-mf --user 17 --user 42 --top-k 10
      autosample-tf recommend --run runs/gowalla-mf --output top.parquet
    """
    if users and user_ids:
        raise click.UsageError("--users and --user: give one of them.")
    if as_json and output is None:
        raise click.UsageError("--json needs --output: without it the lines are printed.")
    load_training(RANKING, device=device)
    from autosample_tf.recommendation.recommending import recommend as write_recommendations

    done = write_recommendations(
        run, output=output or sys.stdout,
        users=users or user_ids or None, top_k=top_k, exclude=exclude, candidates=candidates,
        leave_out_test=leave_out_test, source=chosen_override(options),
    )  # fmt: skip
    counts = {"users": done.users, "items": done.items, "unknown": done.unknown,
              "unknown_items": done.unknown_items}  # fmt: skip
    if as_json:
        click.echo(json.dumps({**counts, "output": str(output)}))
    elif output and not quiet:
        click.echo(f"{done.items:,} items for {done.users:,} users: {output}")


@main.command()
@run_option
@click.option("--top-k", type=int, default=DEFAULTS.top_k[0], show_default=True,
              help="Items a user gets.")  # fmt: skip
@leave_out_test_option
@click.option("--output", type=click.Path(path_type=Path),
              help="The folder of the versions. Default: `export` in the run's.")  # fmt: skip
@click.option("--quantize", type=click.Choice(["bfloat16", "int8"]),
              help="Store item vectors with fewer bits; tells what it costs.")  # fmt: skip
@click.option("--index", type=click.Choice(["faiss", "hnsw"]),
              help="Write an approximate index of items besides; tells its recall.")  # fmt: skip
@source_options
@device_option
@output_options
def export(
    run: Path, top_k: int, leave_out_test: bool, output: Path | None, quantize: str | None,
    index: str | None, device: str, as_json: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Writes a SavedModel for TensorFlow Serving, and compares it with the run.

    From user_id to item_id, score and known; unknown users get the popularity ranking.

    \b
    Example:
      autosample-tf export --run runs/gowalla-mf --top-k 50
      autosample-tf export --run runs/gowalla-mf --quantize int8 --index hnsw
    """
    load_training(RANKING, device=device)
    from autosample_tf.serving.exporting import FACTS
    from autosample_tf.serving.exporting import export as write_model

    folder = write_model(
        run, output=output, top_k=top_k, quantize=quantize, index=index,
        leave_out_test=leave_out_test, source=chosen_override(options),
    )  # fmt: skip
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **facts}))
    elif not quiet:
        click.echo(f"SavedModel, compared with the run for {facts['users_compared']} users: "
                   f"{folder}")  # fmt: skip
        _print_approximations(facts)


def _print_approximations(facts: dict[str, Any]) -> None:
    """What an export's quantized vectors and its index lose."""
    if quantized := facts["quantize"]:
        for name, value in quantized["float32"].items():
            stored = quantized[quantized["kind"]][name]
            click.echo(f"{quantized['kind']} {quantized['split']} {name} {stored:.6f}, "
                       f"float32 {value:.6f}")  # fmt: skip
    if index := facts["index"]:
        for name, value in index["recall"].items():
            click.echo(f"{index['kind']} {name} {value:.4f} of brute force")


@main.command()
@output_options
def doctor(as_json: bool, quiet: bool) -> None:
    """Looks at packages, Keras and devices: what is wrong, and how to mend it.

    Ends with 1 where something is wrong.

    \b
    Example:
      autosample-tf doctor
    """
    from autosample_tf.commands.doctor import examine

    with native_messages_off():
        findings = examine()
    wrong = [finding for finding in findings if finding.remedy]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        for finding in wrong if quiet else findings:
            mark = "WRONG" if finding.remedy else "ok"
            click.echo(f"{mark:<6} {finding.what:<26} {finding.found}")
            if finding.remedy:
                click.echo(f"{'':<6} {'':<26} {finding.remedy}")
    if wrong:
        click.get_current_context().exit(1)


def _goes_on_with(command: str, run_dir: Path, searched: Path | None = None) -> None:
    """Notes what to call after an interruption, for `Commands` to tell."""
    from autosample_tf.runs import resuming

    click.get_current_context().find_root().obj = resuming(command, run_dir, searched)


def _print_end(metrics: dict[str, Any], run_dir: Path, console: Console, as_json: bool) -> None:
    """The result's table and the run's folder; the same as JSON where that is asked for."""
    from autosample_tf.commands.progress import print_result

    print_result(metrics, console)
    console.print(f"run folder: {run_dir}", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps({"run_dir": str(run_dir), **metrics}))


def _asked(options: dict[str, Any], device: str) -> tuple[ModuleType, Source, known.Settings]:
    """`training`, and the data and settings that a search or a comparison is of."""
    settings = chosen_settings(options)
    for name, models in known.MODEL_OPTIONS.items():
        is_asked = getattr(settings, name) != getattr(DEFAULTS, name)
        if is_asked and settings.model not in models:
            flag = "--" + name.replace("_", "-")
            log.warning("%s is of %s: %s has none", flag, ", ".join(models), settings.model)
    training = load_training(settings.model, device=device)
    source = training.Source(chosen_dataset(options), **chosen_source(options))
    return training, source, settings


def _name_of(source: Source) -> str:
    from autosample_tf.reading.sources import default_name

    return default_name(source.dataset)


def _default_run_dir(dataset: str, model: str) -> Path:
    now = datetime.now(timezone.utc)  # with milliseconds: of several begun at once each has its own
    time = f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}Z"
    return Path("runs") / f"{dataset}-{model}-{time}"


if __name__ == "__main__":
    sys.exit(main())

"""The commands. TensorFlow is imported inside them, so that `--help` answers at once."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import autosample_tf
from autosample_tf import settings as known
from autosample_tf.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

DEFAULTS = known.Settings()
_SETTING_NAMES = [field.name for field in dataclasses.fields(known.Settings)]


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
            click.echo(f"Error: {_one_line(error)}", err=True)
            ctx.exit(1)


def _one_line(error: BaseException) -> str:
    """What the user is told; an error that is not the input's fault is named, too."""
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. A search or retraining goes on with --resume --run-dir …."
    if isinstance(error, (InputError, OSError, ImportError)):
        return " ".join(str(error).split())
    first = (str(error).strip().splitlines() or ["no message"])[0]  # TensorFlow's have many
    return f"{type(error).__name__}: {first} (`autosample-tf --debug …` shows where)"


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
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Makes a YAML file's values the command's defaults: flags win over them."""
    if path is None:
        return
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"Expected YAML in {path}; received {message}. Correct it.") from error
    if not isinstance(values, dict):
        raise InputError(
            f"Expected `option: value` lines in {path}; received {type(values).__name__}. "
            "Write for example `model: mf`."
        )
    options = {
        option.opts[0].removeprefix("--"): option
        for option in ctx.command.params
        if isinstance(option, click.Option) and option.expose_value
    }
    given = {}
    for key, value in values.items():
        option = options.get(str(key).replace("_", "-"))
        if option is None:
            known_keys = ", ".join(sorted(options))
            raise InputError(f"Unknown key {key!r} in {path}. Known: {known_keys}.")
        if value is not None:  # `dim:` alone leaves it to the default
            given[option.name] = _as_typed(value, option)
    ctx.default_map = {**(ctx.default_map or {}), **given}


def _as_typed(value: Any, option: click.Option) -> Any:
    """A YAML value as it would stand on the command line, so that it is checked alike."""
    if isinstance(value, bool):
        return value
    values = [str(part) for part in (value if isinstance(value, list) else [value])]
    return values if option.multiple else ",".join(values)


class TopK(click.ParamType):
    """Cutoffs as `10,20`."""

    name = "K[,K…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).strip("[]").split(","))
        except ValueError:
            self.fail(f"expected whole numbers as 10,20; received {value!r}", param, ctx)


def _options(*options: Callable) -> Callable:
    """One decorator of several, listed in their order by `--help`."""

    def decorate(function: Callable) -> Callable:
        return functools.reduce(lambda f, option: option(f), reversed(options), function)

    return decorate


def _choice(flag: str, names: tuple[str, ...], default: str | None, text: str) -> Callable:
    return click.option(flag, type=click.Choice(names), default=default, show_default=True,
                        help=text)  # fmt: skip


def _number(flag: str, kind: Any, default: Any, text: str) -> Callable:
    shown = default if default is not None else "by model, objective or data"
    return click.option(flag, type=kind, default=default, show_default=str(shown), help=text)


_config_option = click.option(
    "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False,
    callback=_read_config, help="YAML file of options; flags win over it.")  # fmt: skip
_source_options = _options(
    click.option("--dataset", help="A known name (`data list`), or a path to a file or folder."),
    click.option("--data-dir", help="Where a known dataset's files are."),
    click.option("--user-column", help="Column of users in a table; found by name if left out."),
    click.option("--item-column", help="Column of items in a table; found by name if left out."),
)
_output_options = _options(
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors (and --json)."),
)
_model_options = _options(
    _choice("--model", known.MODEL_NAMES, DEFAULTS.model, "The recommender."),
    _number("--layers", int, DEFAULTS.layers, "Propagation layers of a graph model."),
    _number("--dim", int, DEFAULTS.dim, "Entries of a user's or an item's vector."),
    _choice("--loss", known.LOSSES, DEFAULTS.loss, "Loss of a positive against a negative."),
)
_search_options = _options(
    click.option("--sampler", "samplers", multiple=True, metavar="SPEC",
                 help="A candidate, `name[:key=value,…]`; repeatable. Default: the standard "
                 "set, see `autosample-tf samplers`."),
    _choice("--mixing", known.MIXINGS, DEFAULTS.mixing, "Mix the losses, or the negatives."),
    _choice("--objective", known.OBJECTIVES, DEFAULTS.objective, "What the weights learn from."),
    _number("--temperature", float, DEFAULTS.temperature, "Softmax temperature of the weights."),
    _number("--drop-threshold", float, DEFAULTS.drop_threshold,
            "Drop a sampler under this share of an equal weight."),
    _number("--drop-warmup", int, DEFAULTS.drop_warmup, "Epochs before the first drop."),
    _number("--search-epochs", int, DEFAULTS.search_epochs, "Epochs of the search."),
    _number("--valid-fraction", float, DEFAULTS.valid_fraction,
            "Of each user's train pairs, held out where the data has no validation split."),
)  # fmt: skip


def _retrain_options(defaults: bool) -> Callable:
    """The retraining's options, with their defaults or, for `retrain`, without any."""

    def default(name: str) -> Any:
        return getattr(DEFAULTS, name) if defaults else None

    top_k = ",".join(map(str, DEFAULTS.top_k)) if defaults else None
    return _options(
        _choice("--init", known.INITS, default("init"), "Where retraining starts."),
        _number("--rewind-epoch", int, None, "Search epoch to rewind to: kept by the search."),
        click.option("--refit/--no-refit", default=default("refit"),
                     help="Train once more on train and validation, everything fixed."),
        _number("--retrain-epochs", int, default("retrain_epochs"), "Most epochs of retraining."),
        _number("--patience", int, default("patience"), "Epochs without a better NDCG to stop."),
        _number("--batch-size", int, None, "Pairs a step."),
        _number("--learning-rate", float, None, "Step size of the optimizer."),
        _number("--l2", float, None, "Weight of the squared norms of a pair's vectors."),
        _choice("--optimizer", known.OPTIMIZERS, None, "Optimizer of the model."),
        click.option("--top-k", type=TopK(), default=top_k, show_default=True,
                     help="Cutoffs; the first steers early stopping."),
        _number("--seed", int, default("seed"), "Of everything random."),
    )  # fmt: skip


@main.command()
@_config_option
@_source_options
@_model_options
@_search_options
@_retrain_options(defaults=True)
@click.option("--run-dir", type=click.Path(path_type=Path), help="The run's folder: runs/…")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir.")
@_output_options
def search(run_dir: Path | None, resume: bool, as_json: bool, quiet: bool, **options: Any) -> None:
    """Searches the sampler, retrains with it, and tests the model once.

    Without --dataset it runs on `synthetic`, made in code, in under a minute.

    \b
    Example:
      autosample-tf search --dataset gowalla --data-dir data --model mf
      autosample-tf search --dataset clicks.csv --sampler rns --sampler dns:pool=16
    """
    if resume:
        options = _resumed(run_dir, options)
    settings = _settings(options)
    console = _console(quiet or as_json)
    training = _load_training()
    from autosample_tf.progress import print_counts, print_result
    from autosample_tf.splits import with_validation

    source = training.Source(_dataset(options), **_source(options))
    data = source.load(settings.seed)
    data = with_validation(data, settings.valid_fraction, seed=settings.seed)
    print_counts(data.counts(), data.checksum(), data.name, console)
    run_dir = run_dir or _default_run_dir(data.name, settings.model)
    with _reporter(console) as reporter:
        metrics = training.search(
            source, settings, run_dir=run_dir, resume=resume, reporter=reporter
        )
    print_result(metrics, console)
    console.print(f"run folder: {run_dir}", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps({"run_dir": str(run_dir), **metrics}))


@main.command()
@click.option("--run", "searched", required=True, type=click.Path(path_type=Path),
              help="The run whose search to use; it stays as it is.")  # fmt: skip
@_config_option
@_source_options
@_retrain_options(defaults=False)
@click.option("--run-dir", type=click.Path(path_type=Path), help="The new run's folder: runs/…")
@click.option("--resume", is_flag=True, help="Go on with the retraining in --run-dir.")
@_output_options
def retrain(
    searched: Path, run_dir: Path | None, resume: bool, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Retrains from another run's search, into a run folder of its own.

    \b
    Example:
      autosample-tf retrain --run runs/gowalla-mf --init scratch --seed 1
    """
    if resume:
        options = _resumed(run_dir, options)
    console = _console(quiet or as_json)
    training = _load_training()
    from autosample_tf.progress import print_counts, print_result
    from autosample_tf.runs import Run

    config = Run.existing(searched).config()
    run_dir = run_dir or _default_run_dir(config["dataset"]["name"], config["settings"]["model"])
    data = config["dataset"]
    print_counts(data["counts"], data["sha256"], data["name"], console)
    changes = {k: v for k, v in options.items() if k in _SETTING_NAMES and v is not None}
    with _reporter(console) as reporter:
        metrics = training.retrain(
            searched, run_dir=run_dir, changes=changes, source=_override(options), resume=resume,
            reporter=reporter,
        )  # fmt: skip
    print_result(metrics, console)
    console.print(f"run folder: {run_dir}", highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps({"run_dir": str(run_dir), **metrics}))


_run_option = click.option("--run", required=True, type=click.Path(path_type=Path),
                           help="The run's folder.")  # fmt: skip


@main.command()
@_run_option
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@_source_options
@_output_options
def evaluate(run: Path, split: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Recomputes the metrics of a run's model.

    \b
    Example:
      autosample-tf evaluate --run runs/gowalla-mf --split test
    """
    training = _load_training()
    metrics = training.evaluate(run, split=split, source=_override(options))
    if as_json:
        click.echo(json.dumps(metrics))
    elif not quiet:
        for name, value in metrics.items():
            click.echo(f"{split} {name} {value:.6f}")


@main.command()
@click.argument("name", required=False)
def samplers(name: str | None) -> None:
    """Lists the candidate samplers, or tells of one.

    \b
    Example:
      autosample-tf samplers dns
    """
    import inspect

    from autosample_tf.errors import unknown

    with _native_messages_off():
        from autosample_tf.samplers import SAMPLERS, build_sampler
    if name is None:
        standard = {build_sampler(spec).spec for spec in known.STANDARD_SET}
        for own in SAMPLERS.values():
            click.echo(f"{own.card.name:<12} {own.card.rule}")
        click.echo(f"standard set: {' '.join(sorted(standard))}")
        return
    if name not in SAMPLERS:
        raise unknown("sampler", name, list(SAMPLERS))
    card = SAMPLERS[name].card
    click.echo(f"{card.name}\n  rule     {card.rule}\n  default  {build_sampler(name).spec}")
    click.echo(f"  cost     {card.cost}\n  source   {card.source}\n")
    click.echo(inspect.getdoc(SAMPLERS[name]))


@main.group()
def data() -> None:
    """Datasets: which are known, and what one holds."""


@data.command("list")
def list_data() -> None:
    """Lists the datasets known by name.

    \b
    Example:
      autosample-tf data list
    """
    from autosample_tf.catalog import PUBLISHED, facts

    click.echo(f"{'synthetic':<14} made in code, for a first look")
    for name in PUBLISHED:
        own = facts(name)
        counts = f"{own.users:,} users, {own.items:,} items"
        pairs = f"{own.train_pairs:,} train and {own.test_pairs:,} test pairs"
        click.echo(f"{name:<14} {counts}, {pairs}; source: {own.homepage}")


@data.command()
@_source_options
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def describe(as_json: bool, **options: Any) -> None:
    """Counts a dataset's users, items and pairs, and what is peculiar about it.

    \b
    Example:
      autosample-tf data describe --dataset path/to/gowalla
    """
    from autosample_tf.catalog import load

    loaded = load(_dataset(options), **_source(options))
    values = {**loaded.counts(), "density": loaded.train.num_pairs / loaded.num_users
              / loaded.num_items, "sha256": loaded.checksum()}  # fmt: skip
    if as_json:
        click.echo(json.dumps({"name": loaded.name, **values}))
        return
    click.echo(loaded.name)
    for key, value in values.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value}"
        click.echo(f"  {key.replace('_', ' '):<28} {shown}")


@main.command()
@_run_option
@click.option("--users", type=click.Path(path_type=Path),
              help="A file of user ids, one a line. Default: all users.")  # fmt: skip
@click.option("--user", "user_ids", multiple=True, metavar="ID", help="A user id; repeatable.")
@click.option("--top-k", "k", type=int, default=DEFAULTS.top_k[0], show_default=True,
              help="The most items a user gets.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path),
              help="A .jsonl, .csv or .parquet file. Default: JSON lines, printed.")  # fmt: skip
@_source_options
@_output_options
def recommend(
    run: Path, users: Path | None, user_ids: tuple[str, ...], k: int, output: Path | None,
    as_json: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Ranks items for users of a run, those already seen left out.

    A line is {"user": …, "items": […], "scores": […]}; a row of .csv and .parquet is
    user, item, rank, score. --json prints the counts, and needs --output.

    \b
    Example:
      autosample-tf recommend --run runs/gowalla-mf --user 17 --user 42 --top-k 10
      autosample-tf recommend --run runs/gowalla-mf --output top.parquet
    """
    if users and user_ids:
        raise click.UsageError("--users and --user: give one of them.")
    if as_json and output is None:
        raise click.UsageError("--json needs --output: without it the lines are printed.")
    _load_training()
    from autosample_tf.recommendation import recommend as write_recommendations

    done = write_recommendations(
        run, output=output or sys.stdout,
        users=users or user_ids or None, k=k, source=_override(options),
    )  # fmt: skip
    counts = {"users": done.users, "items": done.items, "unknown": done.unknown}
    if as_json:
        click.echo(json.dumps({**counts, "output": str(output)}))
    elif output and not quiet:
        click.echo(f"{done.items:,} items for {done.users:,} users: {output}")


@main.command()
@_run_option
@click.option("--top-k", "k", type=int, default=DEFAULTS.top_k[0], show_default=True,
              help="Items a user gets.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path),
              help="The folder of the versions. Default: `export` in the run's.")  # fmt: skip
@_source_options
@_output_options
def export(
    run: Path, k: int, output: Path | None, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Writes a SavedModel for TensorFlow Serving, and compares it with the run.

    From user_id to item_id, score and known; unknown users get the popularity ranking.

    \b
    Example:
      autosample-tf export --run runs/gowalla-mf --top-k 50
    """
    _load_training()
    from autosample_tf.serving import export as write_model

    folder = write_model(run, output=output, k=k, source=_override(options))
    if as_json:
        click.echo(json.dumps({"folder": str(folder)}))
    elif not quiet:
        click.echo(f"SavedModel, compared with the run: {folder}")


@main.command()
@_output_options
def doctor(as_json: bool, quiet: bool) -> None:
    """Looks at packages, Keras and devices: what is wrong, and how to mend it.

    Ends with 1 where something is wrong.

    \b
    Example:
      autosample-tf doctor
    """
    from autosample_tf.doctor import examine

    with _native_messages_off():
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


def _resumed(run_dir: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options, those that were not given being the run's that goes on."""
    if run_dir is None:
        raise click.UsageError("--resume needs --run-dir, the folder of the run to go on with.")
    from autosample_tf.runs import Run

    config, context = Run.existing(run_dir).config(), click.get_current_context()
    stored = {**config["settings"], **(config["source"] or {})}
    not_given = [
        name
        for name in options.keys() & stored.keys()
        if context.get_parameter_source(name) is ParameterSource.DEFAULT
    ]
    return {**options, **{name: _tuple_of_list(stored[name]) for name in not_given}}


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _settings(options: dict[str, Any]) -> known.Settings:
    chosen = {name: options[name] for name in _SETTING_NAMES if name in options}
    chosen["samplers"] = tuple(chosen.get("samplers") or ()) or DEFAULTS.samplers
    return known.Settings(**chosen)


def _dataset(options: dict[str, Any]) -> str:
    """An empty name, as an unset shell variable gives, is not the default."""
    return "synthetic" if options["dataset"] is None else options["dataset"]


def _source(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("data_dir", "user_column", "item_column")}


def _override(options: dict[str, Any]) -> Any:
    """The dataset named on the command line, or None: the run knows its own."""
    from autosample_tf.training import Source

    if options["dataset"] is None:
        return None
    return Source(options["dataset"], **_source(options))


def _default_run_dir(dataset: str, model: str) -> Path:
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    return Path("runs") / f"{dataset}-{model}-{now}"


@contextmanager
def _native_messages_off() -> Iterator[None]:
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


def _load_training() -> ModuleType:
    """`autosample_tf.training`, with TensorFlow and its devices, quietly."""
    autosample_tf.require_keras_2()
    with _native_messages_off():
        import tensorflow as tf

        from autosample_tf import training

        tf.config.list_logical_devices()  # where CUDA says what it lacks
    tf.get_logger().setLevel("ERROR")
    return training


def _console(quiet: bool) -> Console:
    from rich.console import Console

    return Console(quiet=quiet)


@contextmanager
def _reporter(console: Console) -> Iterator[Callable[[str, int], Any]]:
    """Makes each stage's report, and gives the terminal back however it ends."""
    from autosample_tf.progress import Report

    reports: list[Report] = []

    def report(stage: str, epochs: int) -> Report:
        reports.append(Report(stage, epochs, console))
        return reports[-1]

    try:
        yield report
    finally:
        for each in reports:
            each.close()


if __name__ == "__main__":
    sys.exit(main())

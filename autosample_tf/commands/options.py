"""The commands' options: flags, the YAML file behind them, and what they come to.

Flags win over the file, the file over defaults; a resumed run's own settings stand in for
whatever neither gives. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from autosample_tf import settings as known
from autosample_tf.errors import InputError, expected, given_from_python
from autosample_tf.reading.table_options import NAMES as TABLE_OPTIONS

DEFAULTS = known.Settings()
SETTING_NAMES = [field.name for field in dataclasses.fields(known.Settings)]
_SOURCE_OPTIONS = ("data_dir", *TABLE_OPTIONS)
_SOURCELESS = "autosample_tf.sourceless"  # in a context's meta: a --config that names no dataset


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Makes a YAML file's values the command's defaults: flags win over them. A run's
    `config.json`, which is YAML too, gives its settings and data."""
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
        if isinstance(option, click.Option) and (option.expose_value or option.name == "cache")
    }
    fields = {field.name for field in dataclasses.fields(known.Settings)}  # samplers, of --sampler
    by_setting = {option.name: option for option in options.values() if option.name in fields}
    if "schema_version" in values and "settings" in values:
        if values["source"] is None:
            ctx.meta[_SOURCELESS] = path
        values = _of_a_run(values, options)
    given = {}
    for key, value in values.items():
        option = options.get(str(key).replace("_", "-")) or by_setting.get(str(key))
        if option is None:
            known_keys = ", ".join(sorted(options))
            raise InputError(f"Unknown key {key!r} in {path}. Known: {known_keys}.")
        if value is not None:  # `dim:` alone leaves it to the default
            given[option.name] = _as_typed(value, option)
    ctx.default_map = {**(ctx.default_map or {}), **given}


def _of_a_run(config: dict[str, Any], options: Collection[str]) -> dict[str, Any]:
    """What a run's `config.json` says of a command's options."""
    values = {**(config["source"] or {}), **config["settings"]}
    values["sampler"] = values.pop("samplers")
    if "seeds" in options:
        values["seeds"] = config.get("seeds", values.pop("seed"))
    return {key: value for key, value in values.items() if key.replace("_", "-") in options}


def _as_typed(value: Any, option: click.Option) -> Any:
    """A YAML value as it would stand on the command line, so that it is checked alike."""
    if isinstance(value, bool):
        return value if option.is_flag else ("off", "on")[value]  # which YAML takes for them
    # No shell has expanded a path in a file.
    parts = map(str, value if isinstance(value, list) else [value])
    values = [os.path.expanduser(part) for part in parts]
    return values if option.multiple else ",".join(values)


class WholeNumbers(click.ParamType):
    """Whole numbers as `10,20`."""

    name = "N[,N…]"

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


def _choice(
    flag: str, names: tuple[str, ...], default: str | None, text: str, otherwise: str = "by model"
) -> Callable:
    shown = default if default is not None else otherwise
    return click.option(flag, type=click.Choice(names), default=default, show_default=shown,
                        help=text)  # fmt: skip


def _number(
    flag: str, kind: Any, default: Any, text: str, otherwise: str = "by model, objective or data"
) -> Callable:
    shown = default if default is not None else otherwise
    return click.option(flag, type=kind, default=default, show_default=str(shown), help=text)


def _use_cache(ctx: click.Context, _: click.Parameter, place: str | None) -> None:
    """Hands the flag on as the variable that it overrides: no setting of the run."""
    if place is not None:
        from autosample_tf.reading.cache import VARIABLE

        os.environ[VARIABLE] = place


def _log_errors_alone(ctx: click.Context, _: click.Parameter, quiet: bool) -> bool:
    if quiet:
        log = logging.getLogger("autosample_tf")
        ctx.call_on_close(functools.partial(log.setLevel, log.level))
        log.setLevel(logging.ERROR)
    return quiet


config_option = click.option(
    "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False,
    callback=read_config,
    help="YAML file of options, or a run's config.json; flags win over it.")  # fmt: skip
source_options = _options(
    click.option("--dataset", help="A known name (`data list`), or a path to a file or folder, or "
                 "a pattern of files: .csv, .tsv, .inter, .jsonl, .parquet."),
    click.option("--data-dir", help="Where a known dataset's files are."),
    click.option("--columns", metavar="NAME,NAME,…",
                 help="Names of a table's columns, where its first line is a row already."),
    click.option("--user-column", "--user-col",
                 help="Column of users in a table; found by name if left out."),
    click.option("--item-column", "--item-col",
                 help="Column of items in a table; found by name if left out."),
    click.option("--label-column", "--label-col",
                 help="Column of labels in a table, numbers, that tell positives from given "
                 "negatives (dislikes, impressions). Without it every row is a positive."),
    click.option("--positive-from", type=float, metavar="X", show_default="1",
                 help="Least label of a positive; rows below it are given negatives."),
    click.option("--rating-column", "--rating-col",
                 help="Column that --min-rating reads; found by name if left out."),
    click.option("--min-rating", type=float, metavar="X", help="Leaves lower rated rows out."),
    click.option("--time-column", "--time-col",
                 help="Column of times in a table; found by name if left out."),
    click.option("--since", metavar="DATE", help="Leaves earlier rows out."),
    click.option("--until", metavar="DATE", help="Leaves rows of this moment and later out."),
    click.option("--k-core", type=int, metavar="K",
                 help="Leaves users and items out that have fewer than K positives."),
    click.option("--split-by", metavar="RULE", show_default="random:fraction=0.2",
                 help="How a table is tested: random:fraction=…, leave-one-out, leave-last:n=…, "
                 "time:fraction=…,valid=… or time:since=DATE."),
    click.option("--cache", expose_value=False, callback=_use_cache, metavar="FOLDER|off",
                 show_default="AUTOSAMPLE_TF_CACHE, or ~/.cache/autosample-tf/parsed",
                 help="Where parsed data is kept, to be there at once the next time."),
)  # fmt: skip
output_options = _options(
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    click.option(
        "--quiet",
        is_flag=True,
        callback=_log_errors_alone,
        help="Print nothing but errors (and --json).",
    ),
)
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="DEVICE",
    help="auto (the first GPU where there is one), cpu, gpu, or gpu:N.")  # fmt: skip
model_options = _options(
    _choice("--model", known.MODEL_NAMES, DEFAULTS.model, "The recommender."),
    _number(
        "--layers",
        int,
        DEFAULTS.layers,
        "Layers of a graph model's propagation, or of neumf's perceptron.",
    ),
    _number("--dim", int, DEFAULTS.dim, "Entries of a user's or an item's vector."),
    _number(
        "--node-dropout",
        float,
        DEFAULTS.node_dropout,
        "Share of nodes that send no messages in a layer and step of ngcf.",
    ),
    _number(
        "--message-dropout",
        float,
        DEFAULTS.message_dropout,
        "Share of the entries of a layer of ngcf that are left out in a step.",
    ),
    click.option(
        "--loss",
        default=DEFAULTS.loss,
        metavar="SPEC",
        show_default=True,
        help="Loss of positives against negatives, `name[:key=value,…]`: "
        f"{', '.join(known.LOSSES)}; see docs/losses.md.",
    ),
)
search_options = _options(
    click.option("--sampler", "samplers", multiple=True, metavar="SPEC",
                 help="A candidate, `name[:key=value,…]`; repeatable. Default: the standard "
                 "set, see `autosample-tf samplers`."),
    _choice("--mixing", known.MIXINGS, DEFAULTS.mixing, "Mix the losses, or the negatives."),
    _choice("--objective", known.OBJECTIVES, DEFAULTS.objective, "What the weights learn from."),
    _number("--temperature", float, DEFAULTS.temperature, "Softmax temperature of the weights."),
    _number("--drop-threshold", float, DEFAULTS.drop_threshold,
            "Drop a sampler under this share of an equal weight."),
    _number("--drop-warmup", int, DEFAULTS.drop_warmup,
            "Epochs before the first drop, in which `validation` keeps the weights equal; of a "
            "shorter search all but the last."),
    _number("--branch-epochs", int, DEFAULTS.branch_epochs,
            "Epochs of the first branches, under the objective branches."),
    _number("--users-per-pool", int, DEFAULTS.users_per_pool,
            "Rows of a batch that share their candidates; 1: each has its own."),
    click.option("--time-samplers/--no-time-samplers", default=DEFAULTS.time_samplers,
                 help="Tell each sampler's milliseconds a step.",
                 show_default="on all but small data"),
    _number("--search-epochs", int, DEFAULTS.search_epochs, "Epochs of the search."),
    _number("--valid-fraction", float, DEFAULTS.valid_fraction,
            "Of each user's train pairs, held out where the data has no validation split."),
    click.option("--select-on-test/--no-select-on-test", default=DEFAULTS.select_on_test,
                 help="Choose weights and epochs on the test pairs, and train on all of train. "
                 "The results are optimistic: compare them only with tables that did the same."),
)  # fmt: skip


def retrain_options(defaults: bool) -> Callable:
    """The retraining's options, with their defaults or, for `retrain`, without any."""

    def default(name: str) -> Any:
        return getattr(DEFAULTS, name) if defaults else None

    of_the_run = () if defaults else ("the run's",)

    def number(flag: str, kind: Any, value: Any, text: str) -> Callable:
        return _number(flag, kind, value, text, *of_the_run)

    def choice(flag: str, names: tuple[str, ...], value: str | None, text: str) -> Callable:
        return _choice(flag, names, value, text, *of_the_run)

    top_k = ",".join(map(str, DEFAULTS.top_k)) if defaults else None
    return _options(
        choice("--init", known.INITS, default("init"), "Where retraining starts."),
        number("--shrink", float, default("shrink"),
               "What is left of the parameters that it starts from, in (0, 1]."),
        number("--rewind-epoch", int, None, "Search epoch to rewind to: kept by the search."),
        number("--trial-epochs", int, None,
                "Epochs in which retraining tries simpler mixtures too; 0: no trial."),
        click.option("--refit/--no-refit", default=default("refit"),
                     help="Train once more on train and validation, everything fixed."),
        number("--retrain-epochs", int, default("retrain_epochs"), "Most epochs of retraining."),
        number("--patience", int, default("patience"),
                "Epochs without a better NDCG to stop, or lower the rate."),
        number("--rate-decays", int, default("rate_decays"),
                "Times to go back to the best epoch at a fifth of the rate, instead of stopping or "
                "with a sixth of the epochs left."),
        number("--batch-size", int, None, "Pairs a step."),
        number("--learning-rate", float, None, "Step size of the optimizer."),
        number("--l2", float, None, "Weight of the squared norms of a pair's vectors."),
        choice("--optimizer", known.OPTIMIZERS, None, "Optimizer of the model."),
        click.option("--top-k", type=WholeNumbers(), default=top_k, show_default=True,
                     help="Cutoffs; the first steers early stopping."),
        number("--seed", int, default("seed"), "Of everything random."),
        choice("--precision", known.PRECISIONS, default("precision"),
                "Of the scores of training steps; tables, the propagation of graph models, "
                "losses, optimizers and evaluation are float32."),
        click.option("--jit/--no-jit", default=default("jit"), show_default=True,
                     help="Compile training steps with XLA, but for the propagation of graph "
                     "models, which stays float32 and outside XLA, and the optimizers. Leaves "
                     "out what each sampler costs."),
    )  # fmt: skip


whole_search_options = _options(
    config_option, source_options, model_options, search_options, retrain_options(defaults=True)
)


def resumed_options(run_dir: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options, those that were not given being the run's that goes on."""
    if run_dir is None:
        raise click.UsageError("--resume needs --run-dir, the folder of the run to go on with.")
    from autosample_tf.runs import Run

    run = Run.existing(run_dir)
    config = run.config()
    if config["source"] is None and not was_given("dataset"):
        raise given_from_python(f"the run of {run.path / 'config.json'}")
    stored = {**config["settings"], **(config["source"] or {})}
    stored |= {name: config[name] for name in ("seeds", "against") if name in config}
    # Before they are put together: of both, a check may name one that was not given.
    given = {
        name: list(options[name]) if isinstance(options[name], tuple) else options[name]
        for name in config["settings"]
        if name in options and was_given(name) and name not in known.LOWERED
    }
    before = {name: config["settings"][name] for name in given}
    run.check_same({"settings": before}, {"settings": given})
    not_given = [name for name in options.keys() & stored.keys() if not was_given(name)]
    return {**options, **{name: _tuple_of_list(stored[name]) for name in not_given}}


def was_given(name: str) -> bool:
    """Whether an option of the command at work stood on the command line or in its file."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not ParameterSource.DEFAULT


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def chosen_settings(options: dict[str, Any]) -> known.Settings:
    chosen = {name: options[name] for name in SETTING_NAMES if name in options}
    chosen["samplers"] = tuple(chosen.get("samplers") or ()) or DEFAULTS.samplers
    return known.Settings(**chosen)


def chosen_dataset(options: dict[str, Any]) -> str:
    """An empty name, as an unset shell variable gives, is not the default.

    Raises:
      InputError: where `--config` is of a run whose data came from Python, and none is named.
    """
    config = click.get_current_context().meta.get(_SOURCELESS)
    if options["dataset"] is None and config:
        raise given_from_python(f"the run of {config}")
    return "synthetic" if options["dataset"] is None else options["dataset"]


def chosen_source(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _SOURCE_OPTIONS}


def chosen_override(options: dict[str, Any]) -> Any:
    """The dataset named on the command line, or None: the run knows its own."""
    from autosample_tf.training import Source

    chosen = chosen_source(options)
    if options["dataset"] is not None:
        is_moved = all(value is None for value in chosen.values())  # then the run knows the rest
        return options["dataset"] if is_moved else Source(options["dataset"], **chosen)
    if given := ["--" + name.replace("_", "-") for name in chosen if chosen[name] is not None]:
        raise expected(
            f"--dataset beside {', '.join(given)}",
            received="none",
            remedy="Name the dataset too, or leave it all out: the run knows its own.",
        )
    return None

"""The commands of `autosample-tf data`: which datasets are known, getting them, what one holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from autosample_tf.commands.options import (
    DEFAULTS,
    chosen_dataset,
    chosen_source,
    output_options,
    source_options,
)
from autosample_tf.commands.terminal import (
    chatter_off,
    downloading,
    make_console,
    native_messages_off,
)
from autosample_tf.errors import InputError
from autosample_tf.reading.table_options import TableOptions


@click.group()
def data() -> None:
    """Datasets: which are known, getting them, what one holds, and one form for all."""


@data.command("list")
def list_data() -> None:
    """Lists the datasets known by name.

    \b
    Example:
      autosample-tf data list
    """
    from autosample_tf.published import movielens
    from autosample_tf.published.facts import PUBLISHED, facts

    click.echo(f"{'synthetic':<22} made in code, for a first look")
    for name in PUBLISHED:
        own = facts(name)
        pairs = " + ".join(f"{file.pairs:,}" for file in own.files.values())
        way = "data fetch" if own.can_be_fetched else "by hand, no address verified"
        counts = f"{own.users:,} users, {own.items:,} items, {pairs} pairs"
        click.echo(f"{name:<22} {own.title}: {counts} ({way})")
    for name, version in movielens.VERSIONS.items():
        counts = f"{version.users:,} users, {version.ratings:,} ratings"
        click.echo(f"{name:<22} TFDS's movielens/{version.config}: {counts} (data fetch)")


@data.command()
@click.argument("name")
@click.option("--data-dir", help="Where to, into a folder of its name; default as for search.")
@output_options
def fetch(name: str, data_dir: str | None, as_json: bool, quiet: bool) -> None:
    """Downloads a known dataset, checks it, and puts it where `--dataset NAME` finds it.

    A download that was interrupted goes on where it stopped.

    \b
    Example:
      autosample-tf data fetch gowalla
      autosample-tf data fetch movielens-1m --data-dir data
    """
    from autosample_tf import catalog

    try:
        with native_messages_off(), downloading(make_console(quiet or as_json)) as report:
            folder = catalog.fetch(name, data_dir, report=report)
    except KeyboardInterrupt:
        raise InputError("Interrupted. Run it again to go on where it stopped.") from None
    if as_json:
        click.echo(json.dumps({"name": name, "folder": str(folder)}))
    elif not quiet:
        click.echo(f"{name}, checked: {folder}")


split_seed_option = click.option(
    "--seed", type=int, default=DEFAULTS.seed, show_default=True,
    help="Of the split of a table that comes in one piece.")  # fmt: skip


@data.command()
@source_options
@split_seed_option
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Plot how many pairs users and items have: .png, .svg or .pdf.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def describe(seed: int, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Counts users, items and pairs: how dense, uneven, cold and old a dataset is.

    \b
    Example:
      autosample-tf data describe --dataset path/to/gowalla
      autosample-tf data describe --dataset clicks.csv.gz --plot clicks.png
    """
    from autosample_tf.catalog import load
    from autosample_tf.commands.description import as_lines
    from autosample_tf.commands.description import describe as figures_of
    from autosample_tf.commands.description_plot import plot_degrees

    loaded = load(chosen_dataset(options), **chosen_source(options), seed=seed)
    figures = figures_of(loaded)
    if plot is not None:
        plot_degrees(loaded, plot)
    if as_json:
        click.echo(json.dumps({"name": loaded.name, **figures}))
    else:
        click.echo("\n".join([loaded.name, *as_lines(figures)]))


@data.command()
@source_options
@split_seed_option
@click.option("--output", required=True, type=click.Path(path_type=Path),
              help="The folder to write, not there yet or empty.")  # fmt: skip
@output_options
def convert(seed: int, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Writes a dataset as a folder that any command reads at once, ids and splits as they are.

    \b
    Example:
      autosample-tf data convert --dataset clicks.csv --k-core 5 --output clicks
      autosample-tf search --dataset clicks
    """
    from autosample_tf.catalog import load
    from autosample_tf.reading.dataset_folder import write_dataset

    dataset, source = chosen_dataset(options), chosen_source(options)
    loaded = load(dataset, **source, seed=seed)
    chosen = {name: value for name, value in source.items() if value is not None}
    write_dataset(loaded, output, source={"dataset": dataset, **chosen, "seed": seed})
    if as_json:
        click.echo(json.dumps({"folder": str(output), **loaded.counts()}))
    elif not quiet:
        click.echo(f"{loaded.num_users:,} users, {loaded.num_items:,} items: {output}")


@data.command()
@source_options
@split_seed_option
@click.option("--valid-fraction", type=float, default=DEFAULTS.valid_fraction, show_default=True,
              help="Of each user's train pairs, where the split sets none aside.")  # fmt: skip
@click.option("--most-positives", type=int, default=1000, show_default=True,
              help="Of a user, that come with each train pair to mask negatives by.")  # fmt: skip
@click.option("--shards", type=int, show_default="by size", help="How many files to write.")
@click.option("--beam-option", "beam_options", multiple=True, metavar="FLAG",
              help="A flag of Apache Beam or its runner, as --direct_num_workers=4; repeatable. "
              "Default: this machine alone.")  # fmt: skip
@click.option("--output", required=True, type=click.Path(path_type=Path),
              help="The folder to write, which must not be there yet.")  # fmt: skip
@output_options
def shard(
    seed: int, valid_fraction: float, most_positives: int, shards: int | None,
    beam_options: tuple[str, ...], output: Path, as_json: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Writes files of pairs as sharded records, which a search streams: data beyond memory.

    Runs as an Apache Beam pipeline, of the extra `beam`, on this machine or on many.

    \b
    Example:
      autosample-tf data shard --dataset 'log/*.parquet' --split-by leave-last --output shards
      autosample-tf search --dataset shards
    """
    source = {name: value for name, value in chosen_source(options).items() if name != "data_dir"}
    if options["dataset"] is None or options["data_dir"] is not None:
        raise click.UsageError("--dataset names the files to shard; --data-dir is for known data.")
    with chatter_off():
        from autosample_tf.reading.preparation import warn
        from autosample_tf.reading.sharding import write_sharded

        table = TableOptions(**source)
        written = write_sharded(
            options["dataset"], output, table, valid_fraction=valid_fraction,
            seed=seed, most_positives=most_positives, num_shards=shards, beam_options=beam_options,
        )  # fmt: skip
    warn(written, table, splits_given=False)
    counts = written.counts()
    if as_json:
        click.echo(json.dumps({"folder": str(output), **counts}))
    elif not quiet:
        told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
        click.echo(f"{told}: {output}")

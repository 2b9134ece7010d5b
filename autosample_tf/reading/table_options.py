"""What is asked of a table: its columns, which rows count, and how pairs are split.

Only a plain record, so that the command line and a run's config can have it without
pyarrow; `preparation` does what it says.
"""

from __future__ import annotations

import dataclasses

from autosample_tf.errors import expected


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The options of a table; each is None where it is left to its default.

    Attributes:
      columns: the names of a text table's columns, in their order and parted by commas, where
        its first line is a row already; None: the first line names them.
      user_column: the column of users; None finds it by a common name.
      item_column: the column of items; None finds it by a common name.
      label_column: the column of numbers that tells positives from given negatives; None:
        every row is a positive.
      positive_from: the least label of a positive; None: 1.
      rating_column: the column that `min_rating` reads; None finds it by a common name.
      min_rating: rows rated below are left out, as if they were not there.
      time_column: the column of times; None finds it by a common name, if there is one.
      since: the first moment whose rows count, a date in ISO 8601 (UTC where it names no
        zone) or Unix seconds.
      until: the first moment whose rows no longer count, written likewise.
      k_core: users and items with fewer distinct positives than this are left out, over and
        over until none has fewer.
      split_by: what is tested on, as `split_rules` says; None: a random fifth of each
        user's pairs.
    """

    columns: str | None = None
    user_column: str | None = None
    item_column: str | None = None
    label_column: str | None = None
    positive_from: float | None = None
    rating_column: str | None = None
    min_rating: float | None = None
    time_column: str | None = None
    since: str | None = None
    until: str | None = None
    k_core: int | None = None
    split_by: str | None = None

    def check(self) -> None:
        """Refuses options that mean nothing for any table.

        Raises:
          InputError: if there are such.
        """
        if self.positive_from is not None and self.label_column is None:
            raise expected(
                "--label-column beside --positive-from",
                received=f"--positive-from {self.positive_from:g} alone",
                remedy="Name the column of labels with --label-column, or leave "
                "--positive-from out.",
            )
        if self.columns is not None and not all(map(str.strip, self.columns.split(","))):
            raise expected(
                "--columns such as user,item,rating", received=repr(self.columns),
                remedy="Name every column, those that do not matter too.",
            )  # fmt: skip
        if self.k_core is not None and self.k_core < 1:
            raise expected("--k-core of at least 1", received=self.k_core, remedy="Change it.")

    def chosen(self) -> dict[str, str | float]:
        """The options that are not left to their defaults, by name."""
        return {name: value for name, value in vars(self).items() if name in NAMES
                and value is not None}  # fmt: skip


NAMES = tuple(field.name for field in dataclasses.fields(TableOptions))
DEFAULTS = TableOptions()


def refuse_options(options: TableOptions, source: str, *, names: tuple[str, ...] = NAMES) -> None:
    """Refuses a table's options for data that they cannot apply to.

    Args:
      options: what was asked for.
      source: the data, as the message has it.
      names: the options that do not apply.

    Raises:
      InputError: if one of them is given.
    """
    chosen = {name: value for name, value in options.chosen().items() if name in names}
    if chosen:
        raise expected(
            f"no options of a table with {source}",
            received=", ".join(f"{name}={value!r}" for name, value in chosen.items()),
            remedy="Leave them out, or give the path of a table.",
        )

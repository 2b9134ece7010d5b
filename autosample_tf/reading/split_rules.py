"""The rules that part a table's pairs into train, validation and test, as specs.

A spec is `name[:key=value,…]`: `random:fraction=0.2`, `leave-one-out`, `leave-last:n=1`,
`time:fraction=0.2,valid=0.1`, `time:since=2020-01-01`. What a rule holds out is a function
of the pairs, their times and the seed, the same on every machine; `splits` has the
functions.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

import numpy as np

from autosample_tf.errors import expected, unknown
from autosample_tf.interactions import Interactions
from autosample_tf.reading.instants import parse_instant
from autosample_tf.specs import read_options
from autosample_tf.splits import (
    FEWEST_PAIRS,
    Splits,
    hold_out,
    leave_last,
    leave_one_out,
    split_at,
    split_by_time,
)


class Rule(Protocol):
    """Parts pairs.

    Attributes:
      needs_times: whether it can only part pairs whose times are known.
      validates: whether it sets validation pairs aside.
      fewest: below how many pairs a user keeps all of them; None: it does not part the pairs
        of each user by themselves.
    """

    needs_times: ClassVar[bool]
    validates: ClassVar[bool]

    @property
    def fewest(self) -> int | None: ...

    def split(
        self, pairs: Interactions, times: np.ndarray | None, *, seed: int, first_user: int = 0
    ) -> Splits:
        """The splits, over the same users and items.

        Args:
          pairs: what to part.
          times: [num_pairs] Unix seconds of each pair, or None where the rule needs none.
          seed: chooses where the rule leaves a choice.
          first_user: whose pairs the first row has, where the rows are some of all users'; of
            a rule that parts the pairs of each user by themselves.
        """


@dataclasses.dataclass(frozen=True)
class Random:
    """A random share of each user's pairs is tested on; none is set aside for validation.

    Attributes:
      fraction: the share, in (0, 1).
    """

    needs_times: ClassVar[bool] = False
    validates: ClassVar[bool] = False
    fewest: ClassVar[int] = FEWEST_PAIRS
    fraction: float = 0.2

    def split(
        self, pairs: Interactions, times: np.ndarray | None, *, seed: int, first_user: int = 0
    ) -> Splits:
        train, test = hold_out(pairs, self.fraction, seed=seed, first_user=first_user)
        return {"train": train, "test": test}


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
    """A random pair of each user is tested on, and another one is for validation."""

    needs_times: ClassVar[bool] = False
    validates: ClassVar[bool] = True
    fewest: ClassVar[int] = FEWEST_PAIRS

    def split(
        self, pairs: Interactions, times: np.ndarray | None, *, seed: int, first_user: int = 0
    ) -> Splits:
        return leave_one_out(pairs, seed=seed, first_user=first_user)


@dataclasses.dataclass(frozen=True)
class LeaveLast:
    """Each user's last pairs are tested on, and those before them are for validation.

    Attributes:
      n: how many of each, at least 1.
    """

    needs_times: ClassVar[bool] = True
    validates: ClassVar[bool] = True
    n: int = 1

    @property
    def fewest(self) -> int:
        return 2 * self.n + 1

    def split(
        self, pairs: Interactions, times: np.ndarray, *, seed: int, first_user: int = 0
    ) -> Splits:
        return leave_last(pairs, times, self.n, seed=seed, first_user=first_user)


@dataclasses.dataclass(frozen=True)
class Time:
    """The last pairs of all are tested on, and the last before them are for validation.

    Attributes:
      fraction: the share of all pairs to test on, in (0, 1).
      valid: the share of the pairs before those that is for validation, in (0, 1).
      since: tests on the pairs from this moment on instead; None: `fraction` says.
    """

    needs_times: ClassVar[bool] = True
    validates: ClassVar[bool] = True
    fewest: ClassVar[None] = None
    fraction: float = 0.2
    valid: float = 0.1
    since: str | None = None

    def split(
        self, pairs: Interactions, times: np.ndarray, *, seed: int, first_user: int = 0
    ) -> Splits:
        if self.since is None:
            return split_by_time(pairs, times, self.fraction, self.valid)
        return split_at(pairs, times, parse_instant(self.since, "since"), self.valid)


RULES: dict[str, type] = {
    "random": Random,
    "leave-one-out": LeaveOneOut,
    "leave-last": LeaveLast,
    "time": Time,
}


def parse_rule(spec: str | None) -> Rule:
    """The rule that a spec names; None names `random`.

    Raises:
      InputError: if there is no such rule or option, or a value is of the wrong type.
    """
    spec = spec or "random"
    name, _, options = spec.partition(":")
    if name not in RULES:
        raise unknown("rule of a split", name, list(RULES))
    given = read_options(RULES[name], "split", spec, options)
    if {"fraction", "since"} <= given.keys():
        raise expected(
            "since or fraction, which both say where the test begins",
            received=f"both in {spec!r}",
            remedy="Leave one.",
        )
    return RULES[name](**given)

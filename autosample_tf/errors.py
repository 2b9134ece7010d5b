"""The one exception that bad input raises.

Every message says what was expected, what came, and what to do about it; the
command line prints it as one line and exits with 1.
"""

from __future__ import annotations

import difflib


class InputError(ValueError):
    """Bad input: data, settings or a run folder that cannot be used as given."""


class TrainingDivergedError(InputError):
    """The loss is no longer a finite number; the last epoch's checkpoint is untouched."""

    REMEDY = (
        "The checkpoint of the epoch before is kept, if there was one: lower --learning-rate, "
        "or raise --l2."
    )


class NoRowsError(InputError):
    """No row is there, or none counts."""


def expected(what: str, *, received: object, remedy: str) -> InputError:
    """Builds an `InputError` from the three parts that every message has."""
    return InputError(f"Expected {what}; received {received}. {remedy}")


def given_from_python(run: str) -> InputError:
    """The refusal to find the data of a run again that was given a `Dataset`."""
    return expected(
        f"the dataset that {run} was given from Python",
        received="none",
        remedy="Write it to a file and name that with --dataset (source=… in Python).",
    )


def as_pyarrow_says(error: object) -> str:
    """What was received where pyarrow refused it: the beginning of its message, on one line."""
    return f"what pyarrow calls: {' '.join(str(error).split())[:200]}"


def unknown(kind: str, name: object, known: list[str] | tuple[str, ...]) -> InputError:
    """An `InputError` for a name that is not among the known ones, which it lists."""
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.65)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"Unknown {kind} {name!r}. Known: {', '.join(sorted(known))}.{meant}")

"""A moment as people write it: a date in ISO 8601, or Unix time in the unit that its size tells."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone

from autosample_tf.errors import expected

# The most that Unix time can be in each unit, and how many of it make a second: 10^11 seconds
# are the year 5138, and 10^11 milliseconds the year 1973.
UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
_DATE_OF_DIGITS = re.compile("[12][0-9]{3}([01][0-9][0-3][0-9]([0-2][0-9][0-5][0-9]{3})?)?")


def unit_of(size: float) -> int:
    """The place in `UNITS` of the unit that Unix time of this size is in."""
    return next(at for at, (most, _) in enumerate(UNITS) if size < most or most == math.inf)


def parse_instant(text: str | float, name: str) -> float:
    """The Unix seconds of a moment; a date without a zone is in UTC.

    Args:
      text: such as `2020-01-31`, `2020-01-31T12:00:00Z` or `1580428800`; not a year, a
        `20200131` or a `20200131120000`, which are no more likely Unix time than dates.
      name: the option that it was given for.

    Raises:
      InputError: if it is neither.
    """
    given = str(text).strip()
    # A year and a day without dashes read as seconds would be moments of January to August 1970.
    for parse in (_from_unix, _from_iso) if not _DATE_OF_DIGITS.fullmatch(given) else ():
        try:
            seconds = parse(given)
        except (ValueError, OverflowError):
            continue
        if math.isfinite(seconds):
            return seconds
    raise expected(
        f"a date in ISO 8601 or Unix time as {name}",
        received=repr(text),
        remedy="Write for example 2020-01-31.",
    )


def format_instant(seconds: float) -> str:
    """A moment in ISO 8601, to the second; what no calendar has as Unix seconds."""
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _from_unix(text: str) -> float:
    number = float(text)
    return number / UNITS[unit_of(abs(number))][1]


def _from_iso(text: str) -> float:
    # Python 3.10 reads no `Z`.
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "zZ" else text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()

"""Specs: a name and options as text, `dns:pool=16`, of samplers and losses alike.

The options are the arguments of a class's constructor, read by the types of its defaults.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from autosample_tf.errors import InputError, expected, unknown

Built = TypeVar("Built")


def build_from(own: type[Built], kind: str, spec: str, options: str) -> Built:
    """An instance of a class by the options of a spec.

    Args:
      own: the class.
      kind: of what it is, as errors call it: `sampler`.
      spec: as a whole, for errors.
      options: the part `key=value,…` of it, or nothing.

    Raises:
      InputError: for an unknown option, a value of the wrong kind, or one that is missing.
    """
    given = read_options(own, kind, spec, options)
    try:
        return own(**given)
    except TypeError as error:  # an option without a default that was not given
        raise InputError(
            f"Expected all options of {kind} {spec!r}; received too few ({error}). Add them "
            "as key=value."
        ) from error


def read_options(own: type, kind: str, spec: str, options: str) -> dict[str, Any]:
    """The options that a spec gives a class, by name, in their types; all as in `build_from`."""
    parameters = inspect.signature(own).parameters
    given: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        key, _, value = part.partition("=")
        if key in given:
            raise expected(f"each option of {kind} {spec!r} once", received=f"{key} twice",
                           remedy="Leave one.")  # fmt: skip
        if key not in parameters:
            name = spec.removesuffix(options).removesuffix(":")
            raise unknown(f"option of {kind} {name!r}", key, list(parameters))
        given[key] = _parse(f"{key} of {kind} {spec!r}", value, parameters[key].default)
    return given


def _parse(what: str, text: str, default: object) -> object:
    """The text as a value of its default's type; as it is where there is no telling one."""
    if default is None or default is inspect.Parameter.empty:
        return text
    kind: Any = type(default)
    try:
        return {"True": True, "False": False}[text] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise expected(
            f"{what} as {kind.__name__}",
            received=repr(text),
            remedy=f"Write for example {default}.",
        ) from error

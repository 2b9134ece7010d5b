"""The candidate samplers, by name.

Adding one is a file that fulfils `contract.Sampler` and a line in `SAMPLERS`. A class of
one's own needs no line: its spec is `package.module:Class[:key=value,…]`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable

from autosample_tf.errors import InputError, expected, unknown
from autosample_tf.samplers.adasir import AdaSIR
from autosample_tf.samplers.ahns import AHNS
from autosample_tf.samplers.aobpr import AOBPR
from autosample_tf.samplers.batch import MNS, InBatch
from autosample_tf.samplers.bns import BNS
from autosample_tf.samplers.contract import Card, Context, Feedback, Negatives, Pool, Sampler
from autosample_tf.samplers.curriculum import Curriculum
from autosample_tf.samplers.dens import DENS
from autosample_tf.samplers.dins import DINS
from autosample_tf.samplers.dynamic import DNS, DNSMN
from autosample_tf.samplers.given import Given
from autosample_tf.samplers.irgan import IRGAN
from autosample_tf.samplers.kbgan import KBGAN
from autosample_tf.samplers.mixgcf import MixGCF
from autosample_tf.samplers.nscaching import NSCaching
from autosample_tf.samplers.popularity import PNS
from autosample_tf.samplers.softmax import SelfAdversarial, SoftmaxDNS, SoftmaxV
from autosample_tf.samplers.srns import SRNS
from autosample_tf.samplers.uniform import RNS
from autosample_tf.samplers.warp import WARP
from autosample_tf.specs import build_from

__all__ = ["SAMPLERS", "Card", "Context", "Feedback", "Negatives", "Pool", "Sampler",
           "build_sampler", "build_samplers"]  # fmt: skip

SAMPLERS: dict[str, type[Sampler]] = {
    sampler.card.name: sampler
    for sampler in (
        RNS,
        PNS,
        InBatch,
        MNS,
        DNS,
        DNSMN,
        SoftmaxDNS,
        SoftmaxV,
        SelfAdversarial,
        Curriculum,
        AOBPR,
        WARP,
        BNS,
        AHNS,
        MixGCF,
        DINS,
        DENS,
        NSCaching,
        SRNS,
        AdaSIR,
        KBGAN,
        IRGAN,
        Given,
    )
}


def build_sampler(spec: str) -> Sampler:
    """The sampler of a spec: `dns`, `dns:pool=16` or `mine.samplers:Mine:depth=2`.

    Raises:
      InputError: for an unknown name or option, or a value of the wrong kind.
    """
    if _is_path_of_a_class(spec):
        module, _, rest = spec.partition(":")
        name, _, options = rest.partition(":")
        own = _import_class(module, name)
    else:
        name, _, options = spec.partition(":")
        if {each.strip() for each in name.split(",")} & set(SAMPLERS) and "," in name:
            raise expected("one sampler a spec", received=spec, remedy="Repeat --sampler for each.")
        if name not in SAMPLERS:
            raise unknown("sampler", name, list(SAMPLERS))
        own = SAMPLERS[name]
    return build_from(own, "sampler", spec, options)


def _is_path_of_a_class(spec: str) -> bool:
    """Whether it begins with `module:Class`, whatever comes then, and not with a known name."""
    name, _, rest = spec.partition(":")
    return "." in name or (name not in SAMPLERS and rest.partition(":")[0].isidentifier())


def build_samplers(specs: str | Iterable[str | Sampler]) -> list[Sampler]:
    """The samplers of one spec or several, no two of them the same.

    Raises:
      InputError: for no sampler at all, or for one given twice.
    """
    specs = [specs] if isinstance(specs, str) else specs
    samplers = [build_sampler(spec) if isinstance(spec, str) else spec for spec in specs]
    if not samplers:
        raise expected("at least one sampler", received="none", remedy="Name one: dns.")
    seen: set[str] = set()
    for sampler in samplers:
        if sampler.spec in seen:
            raise expected(
                "different samplers",
                received=f"{sampler.spec} twice",
                remedy="Drop one of them, or give it other options.",
            )
        seen.add(sampler.spec)
    return samplers


def _import_class(module: str, name: str) -> type[Sampler]:
    try:
        own = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"Expected a sampler class as package.module:Class; received {module}:{name} "
            f"({error}). Check the names, and that the module is on the Python path."
        ) from error
    if not (inspect.isclass(own) and issubclass(own, Sampler)):
        raise expected(
            "a subclass of autosample_tf.samplers.Sampler",
            received=f"{module}:{name}",
            remedy="Derive the class from Sampler.",
        )
    return own

"""Every setting of a run, with its default, where it may lie, and what it trades.

No TensorFlow here: the command line reads names and defaults from this module before it
imports anything heavy.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

from autosample_tf.errors import expected, unknown
from autosample_tf.float32 import fits_float32

# Where a setting is None. Found on validation data; the evidence is in docs/defaults.md.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "mf": {"learning_rate": 3e-3, "l2": 0.05, "optimizer": "row-sparse-adam"},
    "lightgcn": {"learning_rate": 3e-3, "l2": 1e-3, "optimizer": "adam"},
    "neumf": {"learning_rate": 1e-3, "l2": 1e-3, "optimizer": "row-sparse-adam"},
    "ngcf": {"learning_rate": 3e-3, "l2": 1e-3, "optimizer": "adam"},
}
MODEL_NAMES = tuple(sorted(MODEL_DEFAULTS))
MODEL_OPTIONS = {  # whose they are, of settings that not every model has
    "layers": ("lightgcn", "neumf", "ngcf"),
    "node_dropout": ("ngcf",),
    "message_dropout": ("ngcf",),
}
LOSSES = ("bce", "bpr", "ccl", "hinge", "in-batch-softmax", "sampled-softmax")
STEP_OBJECTIVES = ("bilevel", "joint", "uniform", "validation")  # what weights learn within a step
TRYING_OBJECTIVES = ("asng", "branches")  # what they learn from trying samplers, between steps
OBJECTIVES = (*TRYING_OBJECTIVES, *STEP_OBJECTIVES)
MIXINGS = ("instance", "loss")
INITS = ("rewind", "scratch", "search")
PRECISIONS = ("float32", "mixed_bfloat16")
OPTIMIZERS = ("adam", "row-sparse-adam")
STANDARD_SET = (
    "rns",
    "pns",
    "dns:pool=8",
    "dns:pool=32",
    "dns-mn:pool=32,top=5",
    "softmax-dns",
    "aobpr",
    "mixgcf",
    "ahns",
    "bns",
)

# The softmax temperature that an objective's logits are made for. Those of `validation` are means
# of standardized numbers, some tenths apart where one sampler is clearly better. On large data,
# where a trial makes good what is too much, weights may lean harder.
TEMPERATURES = {**dict.fromkeys(OBJECTIVES, 1.0), "validation": 0.3}
_TEMPERATURES_ON_LARGE_DATA = {**TEMPERATURES, "validation": 0.1}
_LARGE_DATA = 204_800  # train pairs, or more
_TRIAL_EPOCHS = 5
_SMALL_DATA = 65_536  # train pairs; of fewer a trial and the timing of samplers take too long
# Settings that are lowered on small data, or of a short search.
LOWERED = ("batch_size", "drop_warmup")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a search and its retraining do; the run's folder and data are given apart.

    Attributes:
      model: one of `MODEL_NAMES`.
      layers: propagation layers of a graph model, the perceptron's of neumf, at least 1.
      dim: entries of a user's or an item's vector.
      node_dropout: share of nodes that send no messages in a layer and step of ngcf, in [0, 1).
      message_dropout: share of a layer's entries left out by ngcf, in [0, 1).
      loss: one of `LOSSES`, with options of its own as in a sampler's spec.
      samplers: the candidates' specs.
      mixing: `loss` sums the samplers' losses; `instance` takes the loss of the sum of
        their negatives, one score an example instead of one a sampler.
      objective: what the weights learn from; see `objectives`.
      temperature: of the softmax over logits, above 0; lower chooses more sharply, and
        follows noise more. None: the objective's, `TEMPERATURES`; for `validation` 0.3, or 0.1
        of 204,800 train pairs or more.
      drop_threshold: a sampler is dropped when its weight is under this share of an equal
        weight; in [0, 1), 0 drops none. Higher drops earlier, cheaper and less surely.
      drop_warmup: epochs before the first drop; under `validation` the weights stay equal
        for as long, while their evidence is gathered, but for the search's last epoch.
      branch_epochs: of each branch in the first round, under `branches`; twice as many in
        each further one. At least 1: more tell more surely who is best, and cost more.
      users_per_pool: rows of a batch that share their candidates, at least 1: more make a
        step faster and its candidates fewer.
      time_samplers: tell what each sampler costs, which takes some seconds whenever the set
        of active samplers has changed; None: on all but small data, whose steps are over sooner.
      init: where retraining starts: the parameters of the `search`'s best epoch, those of
        `rewind_epoch`, or from `scratch`.
      shrink: what retraining multiplies those parameters by, in (0, 1], before it adds some noise
        and begins with an optimizer anew: less keeps less of what the search learned under other
        weights, which takes epochs to make good and ends higher. 1: they stay, and the optimizer's
        state goes on, unless `optimizer` is another than the search's.
      rewind_epoch: the search epoch whose parameters are kept for `rewind`; None: the
        last of the warm-up.
      trial_epochs: for which retraining tries the equal mixture of all candidates, and each
        sampler that led during the search, alone, beside the searched mixture, from the same
        parameters; it is then under the best. 0: the searched one is taken as it is. None: 5,
        or 0 of fewer than 65,536 train pairs, of which it would be half of the cost. `uniform`,
        and objectives that try samplers themselves, have no trial.
      refit: after choosing, train once more on train and validation together with
        everything fixed, epochs too: what published tables compare with.
      search_epochs: most epochs of the search, at least 1.
      retrain_epochs: most epochs of the retraining.
      patience: epochs without a better validation NDCG before a stage stops, or its learning
        rate decays; the rounds of `branches` have lengths of their own.
      rate_decays: how often retraining, instead of stopping, goes back to its best epoch and on
        from there at a fifth of the learning rate, a sixth of its epochs before the last at the
        latest; so does a search without retraining.
      batch_size: pairs a step; None: 2,048, or what leaves an epoch some 100 steps.
      learning_rate: None: the model's, `MODEL_DEFAULTS`.
      l2: of the regularization, see `models.contract`; None: the model's.
      optimizer: one of `OPTIMIZERS`; None: the model's.
      valid_fraction: of each user's train pairs, held out where the data has no
        validation split.
      select_on_test: every choice reads the test pairs, and no pair is held out of train;
        a validation split of the data's own is not used. The results are optimistic, and
        comparable only with tables whose epochs were chosen so. Excludes `refit`.
      top_k: cutoffs of the metrics; the first steers early stopping.
      seed: of initial values, data order, samplers and splits.
      precision: one of `PRECISIONS`, Keras dtype policies. `mixed_bfloat16` computes the
        scores of training steps in bfloat16, which is faster where a device has units for
        it, and rounds them to 8 bits; everything else stays float32.
      jit: compile the dense part of training steps with XLA, see `dense`: less work a step for
        seconds of compiling whenever the set of active samplers has changed, but on a CPU one
        core's and so slower. What each sampler costs is then not told.
    """

    model: str = "mf"
    layers: int = 3
    dim: int = 64
    node_dropout: float = 0.1
    message_dropout: float = 0.1
    loss: str = "bpr"
    samplers: tuple[str, ...] = STANDARD_SET
    mixing: str = "loss"
    objective: str = "validation"
    temperature: float | None = None
    drop_threshold: float = 0.5
    drop_warmup: int = 4
    branch_epochs: int = 2
    users_per_pool: int = 32
    time_samplers: bool | None = None
    init: str = "search"
    shrink: float = 0.2
    rewind_epoch: int | None = None
    trial_epochs: int | None = None
    refit: bool = False
    search_epochs: int = 10
    retrain_epochs: int = 60
    patience: int = 5
    rate_decays: int = 1
    batch_size: int | None = None
    learning_rate: float | None = None
    l2: float | None = None
    optimizer: str | None = None
    valid_fraction: float = 0.1
    select_on_test: bool = False
    top_k: tuple[int, ...] = (20,)
    seed: int = 0
    precision: str = "float32"
    jit: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            kind = field.type.partition(" ")[0]
            if (value := getattr(self, field.name)) is not None and kind in _KINDS:
                object.__setattr__(self, field.name, _plain(field.name, value, kind))
        for name, one in (("samplers", "str"), ("top_k", "int")):
            given = getattr(self, name)
            is_one = isinstance(given, str) or not hasattr(given, "__iter__")
            several = tuple(_plain(name, value, one) for value in ((given,) if is_one else given))
            object.__setattr__(self, name, several)  # frozen, but not yet handed out
        for kind, value, known in (
            ("model", self.model, MODEL_NAMES),
            ("loss", self.loss.partition(":")[0], LOSSES),
            ("mixing", self.mixing, MIXINGS),
            ("objective", self.objective, OBJECTIVES),
            ("init", self.init, INITS),
            ("precision", self.precision, PRECISIONS),
            ("optimizer", self.optimizer or OPTIMIZERS[0], OPTIMIZERS),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        at_least_one = ("layers", "dim", "search_epochs", "patience", "batch_size", "rewind_epoch",
                        "users_per_pool", "branch_epochs")  # fmt: skip
        for name in at_least_one:
            _check(name, getattr(self, name), "at least 1", lambda x: x >= 1)
        within = f"within --search-epochs, {self.search_epochs}"
        _check("rewind_epoch", self.rewind_epoch, within, lambda x: x <= self.search_epochs)
        if self.objective == "branches":
            _check("drop_warmup", self.drop_warmup, "at least 1", lambda x: x >= 1)
            within = f"within --drop-warmup, {self.drop_warmup}, where the branches begin"
            _check("rewind_epoch", self.rewind_epoch, within, lambda x: x <= self.drop_warmup)
        for name in ("drop_warmup", "retrain_epochs", "trial_epochs", "rate_decays", "l2", "seed"):
            _check(name, getattr(self, name), "at least 0", lambda x: x >= 0)
        for name in ("temperature", "learning_rate"):
            _check(name, getattr(self, name), "above 0", lambda x: x > 0)
        for name in ("temperature", "learning_rate", "l2"):
            _check(name, getattr(self, name), "of a size that float32 has", fits_float32)
        _check("shrink", self.shrink, "in (0, 1]", lambda x: 0 < x <= 1)
        for name in ("node_dropout", "message_dropout"):
            _check(name, getattr(self, name), "in [0, 1)", lambda x: 0 <= x < 1)
        _check("drop_threshold", self.drop_threshold, "in [0, 1)", lambda x: 0 <= x < 1)
        _check("valid_fraction", self.valid_fraction, "in (0, 1)", lambda x: 0 < x < 1)
        _check("top_k", self.top_k, "cutoffs of at least 1", lambda x: x and min(x) >= 1)
        if self.refit and not self.retrain_epochs:
            raise expected(
                "--retrain-epochs of at least 1 beside --refit, which trains for the best so many",
                received=0,
                remedy="Raise it, or leave --refit out.",
            )
        if self.select_on_test and self.refit:
            raise expected(
                "--select-on-test without --refit: no validation pairs are left to refit on",
                received="both",
                remedy="Leave one of them out.",
            )

    def resolved(self, num_pairs: int) -> Settings:
        """These settings with every None replaced by what it stands for, and those of `LOWERED` as
        they will be.

        Args:
          num_pairs: the train pairs of the dataset.
        """
        chosen = {
            name: default
            for name, default in MODEL_DEFAULTS[self.model].items()
            if getattr(self, name) is None
        }
        if self.temperature is None:
            is_large = num_pairs >= _LARGE_DATA
            temperatures = _TEMPERATURES_ON_LARGE_DATA if is_large else TEMPERATURES
            chosen["temperature"] = temperatures[self.objective]
        rows = default_batch_size(num_pairs) if self.batch_size is None else self.batch_size
        chosen["batch_size"] = min(rows, max(1, num_pairs))  # others would be padding
        if self.trial_epochs is None:
            chosen["trial_epochs"] = _TRIAL_EPOCHS if num_pairs >= _SMALL_DATA else 0
        if self.time_samplers is None:
            chosen["time_samplers"] = num_pairs >= _SMALL_DATA
        if self.objective in ("validation", "branches"):  # else a short search would learn nothing
            chosen["drop_warmup"] = self._shortened_warmup()
        if self.rewind_epoch is None:
            warmup = chosen.get("drop_warmup", self.drop_warmup)
            chosen["rewind_epoch"] = max(1, min(warmup, self.search_epochs))
        return dataclasses.replace(self, **chosen)

    def _shortened_warmup(self) -> int:
        """The epochs before the first drop, of a short search all but the last."""
        fewest = 1 if self.objective == "branches" else 0
        return max(fewest, min(self.drop_warmup, self.search_epochs - 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: tuples are lists."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """The inverse of `to_dict`.

        Raises:
          InputError: for a key that is no setting.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("setting", key, names)
        chosen: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**chosen)


# By the name of a setting's type, what its values may be, what they become, and how to say it.
_KINDS: dict[str, tuple[Any, type, str]] = {
    "int": (numbers.Integral, int, "a whole number"),
    "float": (numbers.Real, float, "a number"),
    "bool": (bool, bool, "True or False"),
    "str": (str, str, "text"),
}


def _plain(name: str, value: Any, kind: str) -> Any:
    """A setting's value as Python and JSON have it, of whatever number type it is."""
    accepted, own, told = _KINDS[kind]
    if hasattr(value, "item") and not getattr(value, "ndim", 0):  # NumPy's scalars
        value = value.item()
    if not isinstance(value, accepted) or (isinstance(value, bool) and own is not bool):
        raise expected(f"{told} as {_flag(name)}", received=repr(value), remedy="Change it.")
    return own(value)


def default_batch_size(num_pairs: int) -> int:
    """The largest power of two in [128, 2048] that leaves an epoch 100 steps, if any does."""
    size = 2048
    while size > 128 and num_pairs < 100 * size:
        size //= 2
    return size


def _check(name: str, value: Any, wanted: str, holds: Any) -> None:
    if value is not None and not holds(value):
        raise expected(f"{_flag(name)} {wanted}", received=value, remedy="Change it.")


def _flag(name: str) -> str:
    """What the command line calls a setting."""
    return "--" + ("sampler" if name == "samplers" else name.replace("_", "-"))

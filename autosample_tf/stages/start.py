"""Where retraining starts: from the search's parameters shrunk, as they are, or anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.checkpoints import read_optimizer, read_parameters
from autosample_tf.interactions import Pairs
from autosample_tf.models import Recommender
from autosample_tf.runs import Run
from autosample_tf.samplers import Feedback
from autosample_tf.stages.fitting import Job, build, compiled_autosample, make_optimizer, stage_seed
from autosample_tf.stages.results import SearchResult

_NOISE = 0.01  # standard deviation, as tables begin with


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """What every retraining in a run starts from.

    Attributes:
      job: the run that retrains.
      origin: the run that searched.
      result: what it found.
    """

    job: Job
    origin: Run
    result: SearchResult

    @property
    def shrinks(self) -> bool:
        """Whether retraining shrinks the parameters that it starts from."""
        return self.job.settings.init != "scratch" and self.job.settings.shrink < 1

    def initialized(
        self, pairs: Pairs, *, goes_on: bool
    ) -> tuple[Recommender, tf.keras.optimizers.Optimizer]:
        """The model and its optimizer as the search left them, to be retrained on those pairs.

        Args:
          pairs: what is trained on.
          goes_on: whether the optimizer does as well, if it is of the same kind: one of Adam's that
            begins anew moves every entry by nearly its whole rate at first, and what the search had
            learned suffers.
        """
        settings, origin = self.job.settings, self.origin
        model, optimizer = build(settings, pairs), make_optimizer(settings)
        optimizer.build(model.trainable_variables)
        if settings.init == "scratch":
            return model, optimizer
        name = "parameters" if settings.init == "search" else f"epoch-{self.result.rewind_epoch}"
        read_parameters(model, origin.search / name)
        if goes_on and settings.optimizer == origin.config()["settings"]["optimizer"]:
            read_optimizer(optimizer, origin.search / name)
        return model, optimizer

    def shrink(self, model: Recommender) -> None:
        """Shrinks what the search left of a model.

        Ash & Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020 (arXiv 1910.08475): a
        model that goes on from what it learned under other conditions ends lower than one that
        begins anew; shrunk, with some noise added, it keeps the start and ends no lower.
        """
        seed = stage_seed(self.job.settings, "retrain", 1)
        for place, variable in enumerate(model.trainable_variables):
            noise = tf.random.stateless_normal(variable.shape, [seed, place], stddev=_NOISE)
            variable.assign(self.job.settings.shrink * variable + noise)

    def compiled_autosample(
        self,
        weights: Mapping[str, float],
        stage: str,
        model: Recommender,
        optimizer: tf.keras.optimizers.Optimizer,
        pairs: Pairs,
        held_out: Pairs | None = None,
    ) -> AutoSample:
        """Samplers under fixed weights; of `held_out` they learn nothing, it tells how many
        negatives are false."""
        settings = self.job.settings
        return compiled_autosample(
            settings,
            model,
            Feedback(pairs, self.job.data.given),
            samplers=list(weights),
            objective="uniform",
            weights=weights,
            epochs=settings.retrain_epochs,
            seed=stage_seed(settings, stage),
            held_out=held_out,
            optimizer=optimizer,
        )

"""What every stage of a run does: build a model, put a mixture over it, fit it for some epochs.

A stretch of epochs goes on from wherever the checkpoint in its folder stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autosample_tf.autosample import AutoSample
from autosample_tf.callbacks import (
    BackUp,
    EvaluateEpoch,
    Record,
    RefreshSamplers,
    ReportHealth,
    StopOnDivergence,
    TimeSamplers,
)
from autosample_tf.evaluation import Evaluator
from autosample_tf.interactions import Dataset, Interactions, Pairs
from autosample_tf.models import Recommender, build_model
from autosample_tf.optimizers import FusedAdam, RowSparseAdam
from autosample_tf.pipeline import steps_per_epoch, training_batches
from autosample_tf.reading.sharded import StreamedPairs
from autosample_tf.runs import History, Run, folder_name
from autosample_tf.samplers import Feedback
from autosample_tf.settings import Settings
from autosample_tf.stages.asng import LearnByComparing
from autosample_tf.stages.refusal import named_refusals
from autosample_tf.streaming import streamed_batches

_HEALTH_EVERY = 50  # steps from one look at the negatives to the next; at least one an epoch
_HELD_OUT_A_USER = 16  # of streamed pairs, that the weights learn from
_STEPS_PER_CALL = 64  # steps of the graph's own loop: Python is asked once for all of them

# Called when a stretch begins, with its name and last epoch; its callback reports progress.
Reporter = Callable[[str, int], tf.keras.callbacks.Callback]


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What a run works on, from its first stage to its last.

    Attributes:
      run: its folder.
      data: its dataset, with the validation split that it chooses on.
      settings: resolved.
      reporter: what shows progress, if anything does.
    """

    run: Run
    data: Dataset
    settings: Settings
    reporter: Reporter | None = None

    @property
    def monitor(self) -> str:
        """The metric that every choice is made by."""
        return f"ndcg@{self.settings.top_k[0]}"


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Epochs that are trained one after another under one AutoSample.

    Attributes:
      name: what it is called in reports and in TensorBoard.
      folder: of its history and its checkpoint.
      seed: of the batches' order.
      last_epoch: the most it may come to.
      first_epoch: how many epochs the model has been trained before it.
      evaluate_from: the first epoch that is evaluated.
      timed: whether it is told what each sampler costs, if the settings ask for it.
    """

    name: str
    folder: Path
    seed: int
    last_epoch: int
    first_epoch: int = 0
    evaluate_from: int = 0
    timed: bool = True


def fit(
    job: Job,
    autosample: AutoSample,
    pairs: Pairs,
    stretch: Stretch,
    *,
    evaluator: Evaluator | None,
    choices: Sequence[tf.keras.callbacks.Callback] = (),
    learner: LearnByComparing | None = None,
) -> list[dict[str, Any]]:
    """Trains from wherever the stretch's checkpoint stands; the history's rows.

    Args:
      job: of which this is a part.
      autosample: what is trained, compiled, as by `compiled_autosample`.
      pairs: what is trained on.
      stretch: how long, and where to.
      evaluator: None where nothing is held out.
      choices: callbacks that choose by an epoch's metrics; those with a `replay` take up
        from the history's rows what they had chosen, and whether they had stopped.
      learner: what moves the weights between steps, if anything does.
    """
    settings = job.settings
    back_up = BackUp(autosample, stretch.folder)
    history = History(stretch.folder / "history.csv")
    done = max(back_up.restore(), stretch.first_epoch)
    history.load(done)
    stopped = [choice.replay(history.rows) for choice in choices if hasattr(choice, "replay")]
    timed = settings.time_samplers and stretch.timed
    if done < stretch.last_epoch and not any(stopped):
        callbacks = [
            StopOnDivergence(),
            *([learner] if learner else []),
            *([TimeSamplers(_timed_batch(pairs, settings))] if timed else []),
            RefreshSamplers(),
            ReportHealth(),
            EvaluateEpoch(evaluator, stretch.evaluate_from),
            *choices,
            Record(history, job.run.tensorboard / folder_name(stretch.name)),
            back_up,
            *([job.reporter(stretch.name, stretch.last_epoch)] if job.reporter else []),
        ]
        replayed = learner.length if learner else None
        batches = _batches(pairs, settings, stretch.seed, done, replayed)
        with named_refusals(autosample, lambda: _timed_batch(pairs, settings)):
            autosample.fit(
                batches,
                steps_per_epoch=steps_per_epoch(pairs.num_pairs, settings.batch_size),
                initial_epoch=done,
                epochs=stretch.last_epoch,
                callbacks=callbacks,
                verbose=0,
            )
    return history.rows


def compiled_autosample(
    settings: Settings,
    model: Recommender,
    feedback: Feedback,
    *,
    samplers: Sequence[str],
    objective: str,
    epochs: int,
    seed: int,
    held_out: Pairs | None = None,
    weights: Mapping[str, float] | None = None,
    warmup_epochs: int | None = None,
    optimizer: tf.keras.optimizers.Optimizer | None = None,
    steps_per_call: int = _STEPS_PER_CALL,
) -> AutoSample:
    """Samplers over a model as the settings have it, compiled.

    Args:
      settings: of the run, resolved.
      model: what is trained.
      feedback: what is trained on, and the given negatives.
      samplers: the candidates.
      objective: what the weights learn from.
      epochs: after how many training is done, for samplers that change as it goes on.
      seed: of every random number in a step.
      held_out: what the weights learn from; under fixed ones it tells how many negatives are
        false.
      weights: that the mixture begins with; None: equal ones.
      warmup_epochs: during which weights that learn stay equal; None: the settings'.
      optimizer: of the model; None: a new one.
      steps_per_call: steps that the graph takes before Python is asked.
    """
    steps = steps_per_epoch(feedback.train.num_pairs, settings.batch_size)
    autosample = AutoSample(
        model,
        feedback.train,
        given=feedback.given,
        validation=None if held_out is None else held_out.sample(_HELD_OUT_A_USER),
        samplers=samplers,
        objective=objective,
        weights=weights,
        loss=settings.loss,
        mixing=settings.mixing,
        temperature=settings.temperature,
        l2=settings.l2,
        warmup_steps=steps * (settings.drop_warmup if warmup_epochs is None else warmup_epochs),
        total_steps=epochs * steps,
        users_per_pool=settings.users_per_pool,
        health_every=min(_HEALTH_EVERY, steps),
        seed=seed,
    )
    autosample.compile(
        optimizer=optimizer or make_optimizer(settings),
        jit_compile=settings.jit,
        steps_per_execution=min(steps, steps_per_call),
    )
    return autosample


def build(settings: Settings, pairs: Pairs) -> Recommender:
    """The settings' model as it begins."""
    return build_model(
        settings.model,
        pairs,
        dim=settings.dim,
        layers=settings.layers,
        node_dropout=settings.node_dropout,
        message_dropout=settings.message_dropout,
        seed=stage_seed(settings, "initial"),
        dtype=settings.precision,
    )


def make_optimizer(settings: Settings) -> tf.keras.optimizers.Optimizer:
    """The settings' optimizer of the model."""
    if settings.optimizer == "adam":
        return FusedAdam(settings.learning_rate, jit_compile=False)
    return RowSparseAdam(settings.learning_rate)


def stage_seed(settings: Settings, stage: str, *numbers: int) -> int:
    """Another seed for each use of randomness, below 2^31, from the run's one."""
    stages = ("initial", "search", "retrain", "refit", "branch")
    sequence = np.random.SeedSequence([settings.seed, stages.index(stage), *numbers])
    return int(sequence.generate_state(1)[0] >> 1)


def learned_from(data: Dataset, settings: Settings) -> Pairs:
    """The pairs that a run's final model is trained on, which are its graph too."""
    return data.seen if settings.refit else data.train


def chosen_on(data: Dataset, settings: Settings) -> Pairs:
    """The pairs that every choice is made on: a run's validation."""
    return data.test if settings.select_on_test else data.valid


def seen_in_test(data: Dataset, settings: Settings) -> Interactions:
    """What rankings on test leave out: what could be known before, and is not looked for."""
    return data.train if settings.select_on_test else data.seen


def seen_by_users(
    data: Dataset, settings: Settings, *, leave_out_test: bool = False
) -> Interactions:
    """What rankings for users leave out: train and validation, that is, what the run knows.

    With `leave_out_test` the test pairs too. So it is where these are the validation: they are
    no stand-in for the future any more, and users have them already. A validation split of the
    data's own, not used then, is left out as well.
    """
    seen = data.seen.in_memory()
    leaves_out_test = leave_out_test or settings.select_on_test
    return seen.union(data.test.in_memory()) if leaves_out_test else seen


def _timed_batch(pairs: Pairs, settings: Settings) -> dict[str, tf.Tensor]:
    """The second batch: what samplers do in step 0 they do not in most steps."""
    return next(iter(_batches(pairs, settings, settings.seed).skip(1)))


def _batches(
    pairs: Pairs,
    settings: Settings,
    seed: int,
    first_epoch: int = 0,
    replayed: int | None = None,
) -> tf.data.Dataset:
    size = settings.batch_size
    if isinstance(pairs, StreamedPairs):
        return streamed_batches(pairs, size, seed=seed, first_epoch=first_epoch)
    return training_batches(
        pairs.in_memory(), size, seed=seed, first_epoch=first_epoch, replayed=replayed
    )

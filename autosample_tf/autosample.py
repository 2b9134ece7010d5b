"""AutoSample: one model trained under a learned mixture of negative samplers.

Lyu et al., "Towards Automated Negative Sampling in Implicit Recommendation" (arXiv
2311.03526): every candidate sampler's loss on the same batch, weighted by a softmax over
trainable logits. What the logits learn from is an objective, see `objectives`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from autosample_tf import mixture
from autosample_tf.errors import expected, unknown
from autosample_tf.evaluation import check_sizes
from autosample_tf.float32 import fits_float32
from autosample_tf.interactions import Interactions, Pairs
from autosample_tf.losses import Loss, build_loss
from autosample_tf.models import Recommender
from autosample_tf.models.contract import Featured, Prepared, State, is_dot_product, layer_width
from autosample_tf.models.tower import parted
from autosample_tf.models.two_tower import recommender_of
from autosample_tf.objectives import Objective, Told, build_objective
from autosample_tf.ops.membership import BatchRows, PairSet
from autosample_tf.ops.randomness import Draws
from autosample_tf.ops.replicas import global_rows, mean_over_batch
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import TRAIN_POSITIVES
from autosample_tf.samplers import Feedback, Sampler, build_samplers
from autosample_tf.settings import MIXINGS, STANDARD_SET, TEMPERATURES
from autosample_tf.step import examples
from autosample_tf.step.dense import Dense, tensors, through_propagation, watched
from autosample_tf.step.health import Health
from autosample_tf.step.pool import Step
from autosample_tf.step.sampled_losses import (
    check_together,
    has_loss,
    losses_of_samplers,
    mean_penalty,
    positives_of_batch,
    sampler_embeddings,
)
from autosample_tf.step.sampling import Answers, SampledBatch, answers_for_updates, sample_batch

log = logging.getLogger(__name__)


class AutoSample(tfrs.Model):
    """Trains a recommender under a weighted sum of candidate samplers' losses.

    An ordinary Keras model: `compile(optimizer)`, then `fit` on batches as
    `pipeline.training_batches` makes them; of `TwoTower`, on batches of features.

    Args:
      model: the recommender, by `models.contract`; with `candidates`, a query tower.
      train: the pairs being trained on, whose items are never negatives of their user; of pairs
        that are streamed, batches bring those items along. None:
        those of a `TwoTower`; with `candidates`, a candidate tower.
      candidates: makes a `TwoTower` of two Keras models; its options are to be had by making
        it oneself.
      samplers: specs or samplers, the candidates.
      objective: what the logits learn from, one of `STEP_OBJECTIVES` or an `Objective`; None:
        `validation`, with `candidates` and nothing held out `uniform`.
      validation: held-out pairs, needed by `bilevel` and `validation`; under the others
        they only tell the share of false negatives.
      given: negatives that the data brings along, for the sampler `given`.
      weights: the mixture to begin with, by spec; None: equal weights.
      loss: of positives against negatives, a spec of `losses` or a `Loss`.
      mixing: `loss`, sum_k p_k l_k; or `instance`, the loss of sum_k p_k e_k.
      temperature: of the softmax over the logits; lower is nearer to choosing one. None:
        the objective's, `settings.TEMPERATURES`, 1 of an objective of one's own.
      l2: lambda of the regularization, see `models.contract`.
      warmup_steps: under an objective that gathers evidence first (see
        `objectives.Objective`), steps during which the weights stay equal.
      total_steps: after how many steps training is done, for samplers that change as it
        goes on; None: it never progresses.
      logits_optimizer: None: the objective's own.
      sampler_optimizer: of the samplers' own trainable variables; None: `RowSparseAdam`.
      users_per_pool: rows of a batch that share their candidates, which makes steps faster
        and the candidates of a step fewer; 1: each row has its own.
      health_every: `health` looks at one step of so many.
      seed: of every random number in the step.

    Raises:
      InputError: for an unknown name or a setting out of range.
    """

    train_function: Any  # Keras', None before it is made

    def __init__(
        self,
        model: Recommender | tf.keras.layers.Layer,
        train: Pairs | tf.keras.layers.Layer | None = None,
        *,
        candidates: tf.data.Dataset | None = None,
        samplers: str | Iterable[str | Sampler] = STANDARD_SET,
        objective: str | Objective | None = None,
        validation: Interactions | None = None,
        given: Interactions | None = None,
        weights: Mapping[str, float] | None = None,
        loss: str | Loss = "bpr",
        mixing: str = "loss",
        temperature: float | None = None,
        l2: float = 0.0,
        warmup_steps: int = 0,
        total_steps: int | None = None,
        logits_optimizer: tf.keras.optimizers.Optimizer | str | None = None,
        sampler_optimizer: tf.keras.optimizers.Optimizer | str | None = None,
        users_per_pool: int = 32,
        health_every: int = 50,
        seed: int = 0,
    ):
        super().__init__()
        if objective is None:
            is_bare = candidates is not None and validation is None
            objective = "uniform" if is_bare else "validation"
        model, train = recommender_of(model, train, candidates)
        for pairs in (train, validation, given):
            if pairs is not None:
                check_sizes(pairs, model)
        _check(mixing, temperature, l2, health_every, users_per_pool)
        self.model, self.samplers = model, build_samplers(samplers)
        self._loss = build_loss(loss)
        check_together(self._loss, mixing, self.samplers, is_dot_product(type(model)))
        following = [s.spec for s in self.samplers if s.follows_progress]
        if following and total_steps is None:
            log.warning("without total_steps %s never change as training goes on", following)
        self._objective = build_objective(objective, model, validation, self._loss)
        self._warmup_steps = warmup_steps if self._objective.gathers else 0
        self.objective, self.mixing = objective, mixing
        own_temperature = TEMPERATURES.get(objective, 1.0) if isinstance(objective, str) else 1.0
        self.temperature = own_temperature if temperature is None else temperature
        self.l2, self.seed = l2, seed
        self._total_steps = total_steps
        self._positives = PairSet(train) if isinstance(train, Interactions) else None
        self.logits = tf.Variable(
            _initial_logits(self.specs, weights, self.temperature), name="logits", trainable=False
        )
        for sampler in self.samplers:
            if sampler.is_built:
                raise expected(
                    "samplers that no other AutoSample has",
                    received=f"{sampler.spec}, which holds the tables of one",
                    remedy="Pass its spec, or make another.",
                )
            dim = layer_width(model) if sampler.layer_by_layer else model.dim
            sampler.build(Feedback(train, given), dim)
            sampler.is_built = True
        self.active_mask = tf.Variable([True] * len(self.samplers), trainable=False)
        self._active = tuple(range(len(self.samplers)))
        self.logits_optimizer = _optimizer(logits_optimizer) or self._objective.optimizer()
        self.logits_optimizer.build([self.logits])
        # Built for all samplers, dropped ones too: its slots keep their places in checkpoints.
        self.sampler_optimizer = _optimizer(sampler_optimizer) or RowSparseAdam(1e-3)
        self.sampler_optimizer.build([v for s in self.samplers for v in s.trainable_variables])
        self._health = Health(model, train, validation, len(self.samplers), self._loss)
        self._health_every, self._users_per_pool = health_every, users_per_pool
        self.loss_mean = tf.keras.metrics.Mean(name="loss")
        self._evaluates = False
        self.sampler_loss_means = tf.keras.metrics.MeanTensor(
            name="sampler_losses", shape=(len(self.samplers),)
        )
        self.jit = False
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """There is none: what is trained on would be part of it.

        Raises:
          NotImplementedError: always, before Keras writes a file that it could not read.
        """
        raise NotImplementedError(
            "Expected weights to be saved (save_weights, save_weights_only=True); received a "
            "request for the whole AutoSample, which its data is part of."
        )

    def compile(self, optimizer: Any, *, jit_compile: bool = False, **options: Any) -> None:
        """As Keras', but that XLA compiles a step's dense part, and the optimizer has its slots.

        With these `fit` traces a step once; else once to make them and again to use them.

        Args:
          optimizer: of the model.
          jit_compile: whether XLA compiles what lies between the model's propagation and the
            optimizers, see `dense`.
          **options: of `tf.keras.Model.compile`.

        Raises:
          InputError: for `jit_compile` on several replicas, whose sums XLA cannot wait for, or of
            a model of features.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if jit_compile and replicas > 1:
            raise expected("one replica to compile for", received=replicas, remedy="Leave it out.")
        if jit_compile and isinstance(self.model, Featured):
            raise expected(
                "a model of ids to compile for, whose step XLA knows all operations of",
                received="one of features",
                remedy="Leave jit_compile out.",
            )
        self.jit = jit_compile
        super().compile(optimizer=optimizer, jit_compile=False, **options)
        if not isinstance(self.optimizer, tf.keras.optimizers.Optimizer):
            raise expected(
                "an optimizer of Keras 2 (tf.keras.optimizers)",
                received=f"{type(self.optimizer).__module__}.{type(self.optimizer).__name__}",
                remedy="Legacy and composite ones make their slots too late: use their successor.",
            )
        if self.model.built:  # else its variables are not known yet
            self.optimizer.build(self.model.trainable_variables)

    def fit(self, x: Any = None, *arguments: Any, **options: Any) -> tf.keras.callbacks.History:
        """As `tf.keras.Model.fit`; batches are checked before a step is traced.

        Args:
          x: a `tf.data.Dataset` of batches: of features, as a `TwoTower`'s towers take them; for
            any other model as `pipeline.training_batches` makes them, of which `user` and
            `positive` will do.

        Raises:
          InputError: for batches that the model cannot be trained on.
        """
        if isinstance(x, tf.data.Dataset):
            with self.distribute_strategy.scope():  # towers may be built here
                featured = isinstance(self.model, Featured)
                (self.model if featured else examples).check_batches(x.element_spec)
            examples.check_parts(x.element_spec, self.distribute_strategy.num_replicas_in_sync)
        return super().fit(x, *arguments, **options)

    @property
    def specs(self) -> list[str]:
        """The candidates' canonical specs, dropped ones among them."""
        return [sampler.spec for sampler in self.samplers]

    @property
    def survivors(self) -> list[str]:
        """The specs of the samplers that are still trained under."""
        return [self.specs[k] for k in self._active]

    @property
    def active_samplers(self) -> list[Sampler]:
        """The samplers that are still trained under, in the candidates' order."""
        return [self.samplers[k] for k in self._active]

    @property
    def active_places(self) -> tuple[int, ...]:
        """Where the active samplers stand among the candidates, ascending."""
        return self._active

    @contextmanager
    def under(self, active: tuple[int, ...]) -> Iterator[None]:
        """While it lasts, steps that are traced know these candidates alone."""
        before, self._active = self._active, active
        try:
            yield
        finally:
            self._active = before

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Keras', and those of `health`: all that an epoch, or an evaluation, begins anew."""
        own = [] if self._evaluates else self._health.metrics
        return [*super().metrics, *own]

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """As `tf.keras.Model.evaluate`; the epoch that it is a part of keeps its health."""
        self._evaluates = True
        try:
            return super().evaluate(*arguments, **options)
        finally:
            self._evaluates = False

    def changed_by_steps(self) -> list[tf.Variable]:
        """Every variable that a training step may assign, once compiled and built."""
        metrics = [v for metric in self.metrics for v in metric.variables]
        optimizers = (self.optimizer, self.logits_optimizer, self.sampler_optimizer)
        slots = [v for optimizer in optimizers for v in optimizer.variables]
        return [*self.model.variables, self.logits, *self.of_samplers(), *metrics, *slots]

    def state(self) -> list[tf.Tensor]:
        """Copies of all that a training step may assign, for `go_back_to`."""
        return [tf.identity(variable) for variable in self.changed_by_steps()]

    def go_back_to(self, state: list[tf.Tensor]) -> None:
        """As if the steps since that `state` had not been taken."""
        for variable, value in zip(self.changed_by_steps(), state, strict=True):
            variable.assign(value)

    def of_samplers(self) -> list[tf.Variable]:
        """The variables that the candidates have made, trainable or not."""
        return [variable for sampler in self.samplers for variable in sampler.variables]

    def weights_by_spec(self) -> dict[str, float]:
        """The mixture as it stands: each survivor's weight, summing to 1."""
        weights = self._mixture_weights().numpy()
        return {self.specs[k]: float(weights[k]) for k in self._active}

    def assign_weights(self, weights: np.ndarray) -> None:
        """Makes the mixture this one, [num_samplers] in the candidates' order, 0 of those dropped.

        Under an objective that learns they go on from there.
        """
        above_0 = np.maximum(weights, np.finfo(np.float32).tiny)
        self.logits.assign((self.temperature * np.log(above_0)).astype(np.float32))

    def health(self) -> dict[str, float]:
        """What the samplers' negatives were like since the epoch began, see `health`."""
        return self._health.read(self.specs, self._active)

    def refresh_samplers(self) -> None:
        """Calls `refresh` of every active sampler: once an epoch, by `RefreshSamplers`."""
        for sampler in self.active_samplers:
            sampler.refresh()

    def drop(self, specs: Iterable[str]) -> None:
        """Takes samplers out of the mixture; the next step is traced without them.

        Raises:
          InputError: if none would be left, or a spec is not a candidate's.
        """
        gone = set(specs)
        for spec in gone.difference(self.specs):
            raise unknown("candidate", spec, self.specs)
        self._keep([k for k in self._active if self.specs[k] not in gone])

    def restore_active(self) -> None:
        """Makes the step follow `active_mask` after a checkpoint was restored.

        Keras' `load_weights`, `set_weights` and `fit` see to it themselves.
        """
        self._keep(np.flatnonzero(self.active_mask.numpy()).tolist())

    def load_weights(self, *arguments: Any, **options: Any) -> Any:
        """As `tf.keras.Model.load_weights`; who was dropped then is, who was not is not."""
        status = super().load_weights(*arguments, **options)
        self.restore_active()
        return status

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """As `tf.keras.Model.set_weights`, likewise."""
        super().set_weights(weights)
        self.restore_active()

    def reset_metrics(self) -> None:
        """As `tf.keras.Model.reset_metrics`, before each epoch: by then a callback may have
        restored a checkpoint."""
        super().reset_metrics()
        if not self._evaluates:
            self.restore_active()

    def _keep(self, active: list[int]) -> None:
        if not active:
            raise expected("a sampler to keep", received="all dropped", remedy="Keep one.")
        changed = tuple(active) != self._active
        self._active = tuple(active)
        self.active_mask.assign([k in self._active for k in range(len(self.samplers))])
        if changed:
            self.test_function = None  # Keras makes it anew
        if changed and self.train_function is not None:
            self.make_train_function(force=True)

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The mixture's loss on a batch of `pipeline.training_batches`, a scalar, with what the
        model's layers add to it."""
        inputs = self._examples(inputs)
        state = self._propagate(inputs, training=training)
        batch = self.sample(inputs, state)
        loss = self._mixed_loss(batch, losses_of_samplers(batch, self._loss), inputs["weight"])
        return loss + self._of_layers(state)

    def make_train_function(self, force: bool = False) -> Callable[[Any], Any]:
        """As Keras', but that a loop over steps has its step traced once.

        Keras' loop hands the last step's logs on, and has to trace a step to learn their shapes
        before it traces it as the loop's body. Here they are read when the loop is done: of
        several replicas too, whose logs Keras would sum.
        """
        is_made = self.train_function is not None and not force
        if is_made or self.run_eagerly or not self._has_own_loop():
            return super().make_train_function(force)

        @tf.function(autograph=False, reduce_retracing=True)
        def several_steps(iterator: Any) -> dict[str, tf.Tensor]:
            def one_step(done: tf.Tensor) -> tf.Tensor:
                self.distribute_strategy.run(self._train_on, args=(next(iterator),))
                self._train_counter.assign_add(1)
                return done + 1

            # int32 are counted on the CPU, which need not ask a GPU whether to go on.
            steps = tf.cast(self._steps_per_execution, tf.int32)
            with self._prepared():
                tf.while_loop(lambda done: done < steps, one_step, [tf.constant(0)])
            return self._logs()

        self.train_function = self.train_tf_function = several_steps
        return several_steps

    def _prepared(self) -> AbstractContextManager[None]:
        """Of the model, if it can be and there is one device that all steps are on."""
        if self.distribute_strategy.num_replicas_in_sync == 1 and isinstance(self.model, Prepared):
            return self.model.prepared()
        return nullcontext()

    def _has_own_loop(self) -> bool:
        """Whether Keras calls the graph once for several steps, or they have several replicas."""
        if self._steps_per_execution is None:
            return False
        replicas = self.distribute_strategy.num_replicas_in_sync
        return replicas > 1 or self._steps_per_execution.numpy() > 1

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The mean of the batches' losses so far, for Keras' `evaluate` and `validation_data`:
        what training's `loss` would be if the model inferred."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.loss_mean.update_state(self.compute_loss(data) * replicas)
        return {"loss": self.loss_mean.result()}

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and tracing takes half as long
    def train_step(self, data: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of the model's optimizer and, while searching, of the logits'."""
        self._train_on(data)
        return self._logs()

    def _train_on(self, data: dict[str, tf.Tensor]) -> None:
        if isinstance(self.model, Featured):
            self.model.renew_cache(self.optimizer.iterations)
        data = self._examples(data)
        told, per_sampler, loss = self.descend(data)
        self.update_samplers(told)
        self._observe(told, data)
        self._record(loss, per_sampler, data["weight"])

    def _examples(self, data: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """A batch as `pipeline.training_batches` makes them, of whatever `fit` is given."""
        done = self.optimizer.iterations if self.optimizer else tf.constant(0, tf.int64)
        if isinstance(self.model, Featured):
            return self.model.examples(data, done)
        return examples.completed(data, done)

    def _propagate(self, data: dict[str, tf.Tensor], *, training: bool = True) -> State:
        if isinstance(self.model, Featured):
            return self.model.propagate_batch(data["features"], training=training)
        return self.model.propagate(self._draws(data) if training else None)

    def _of_layers(self, state: State) -> tf.Tensor:
        """What the model's layers add to the loss, this replica's share: once all has passed."""
        added = [state.added] if isinstance(self.model, Featured) else []
        every = [tf.constant(0.0), *added, *self.model.losses]
        return tf.nn.scale_regularization_loss(tf.add_n(every))

    def _added(self) -> list[tf.Tensor]:
        """What layers added to the loss in the propagation, this replica's share."""
        if isinstance(self.model, Featured):
            return []  # there it is in the state
        return [
            tf.nn.scale_regularization_loss(one)
            for one in parted(self.model.losses, self.model.losses)[1]
        ]

    def descend(
        self, data: dict[str, tf.Tensor]
    ) -> tuple[SampledBatch | Answers, tf.Tensor, tf.Tensor]:
        """Samples, and moves the model, the samplers' own variables and the logits.

        Returns:
          The batch under all samplers, or of a compiled step what updates are told; the
          samplers' losses [batch, active]; and the loss.
        """
        with tf.GradientTape() as tape:
            state = self._propagate(data)
            added = self._added()
        told: SampledBatch | Answers
        if self.jit:
            found = self._compiled(state, data)
            told = answers_for_updates(
                self.model, state, self.active_samplers, data, self._step(data)
            )
        else:
            told, found = self._dense_part(state, data)
        gradients = through_propagation(tape, state, added, found, self.model.trainable_variables)
        if self._is_searching():
            _apply(self.logits_optimizer, [found.of_logits], [self.logits])
        _apply(self.optimizer, gradients, self.model.trainable_variables)
        if own := self._own_variables():
            _apply(self.sampler_optimizer, found.of_own, own)
        return told, found.per_sampler, found.loss

    def update_samplers(self, told: SampledBatch | Answers) -> None:
        """Has samplers learn of a step what they learn beside the optimizers, as caches do."""
        for sampler, negatives in zip(self.active_samplers, told.negatives, strict=True):
            sampler.update(told.context, negatives)

    def loss_under_xla(self, data: dict[str, tf.Tensor]) -> tf.Tensor:
        """The loss as XLA computes it: whether it can is what one learns from it."""
        return self._compiled(self._propagate(data), data).loss

    def _compiled(self, state: State, data: dict[str, tf.Tensor]) -> Dense:
        """The dense part under XLA."""
        part = tf.function(
            lambda: self._dense_part(state, data)[1], jit_compile=True, autograph=False
        )
        return part()

    def _dense_part(self, state: State, data: dict[str, tf.Tensor]) -> tuple[SampledBatch, Dense]:
        """All between the propagation and the optimizers: nothing is assigned here."""
        with tf.GradientTape() as tape:
            tape.watch(self.logits)
            state = watched(tape, state)
            batch = self.sample(data, state)
            per_sampler = losses_of_samplers(batch, self._loss)
            loss = self._mixed_loss(batch, per_sampler, data["weight"])
            loss += self._of_layers(state)
        of_state, of_variables, of_own, of_logits = tape.gradient(
            loss,
            [tensors(state), self.model.trainable_variables, self._own_variables(), self.logits],
        )
        if self._is_searching():
            of_logits = self._objective.gradient(self._told(batch, data["weight"], of_logits))
        return batch, Dense(per_sampler, loss, of_state, of_variables, of_own, of_logits)

    def _own_variables(self) -> list[tf.Variable]:
        return [v for sampler in self.active_samplers for v in sampler.trainable_variables]

    def _is_searching(self) -> bool:
        return self._objective.learns and len(self._active) > 1

    def sample(self, data: dict[str, tf.Tensor], state: State | None = None) -> SampledBatch:
        """What the active samplers answer on a batch of `pipeline.training_batches`.

        Args:
          data: the batch.
          state: what the model propagated; None: it does so here.
        """
        state = self._propagate(data) if state is None else state
        return sample_batch(self.model, state, self.active_samplers, data, self._step(data))

    def _step(self, data: dict[str, tf.Tensor]) -> Step:
        draws = self._draws(data)
        return Step(
            self._positives or BatchRows(data[TRAIN_POSITIVES]),
            draws,
            self._progress(draws.step),
            self._loss,
            self._users_per_pool,
        )

    def _draws(self, data: dict[str, tf.Tensor]) -> Draws:
        positions = data["position"]
        return Draws(self.seed, positions, global_rows(positions.shape[0]))

    def _progress(self, step: tf.Tensor) -> tf.Tensor:
        if not self._total_steps:
            return tf.constant(0.0)
        done = tf.cast(step, tf.float32) / max(self._total_steps - 1, 1)
        return tf.minimum(done, 1.0)

    def _observe(self, told: SampledBatch | Answers, data: dict[str, tf.Tensor]) -> None:
        among = positives_of_batch(told.context) if self._loss.compares_batch else None

        def observe() -> tf.Tensor:
            # What a compiled step sampled stays in it: sampled again, by the parameters moved.
            batch = told if isinstance(told, SampledBatch) else self.sample(data)
            self._health.observe(batch, self._active, among)
            return tf.constant(True)

        its_turn = told.context.draws.step % self._health_every == 0
        tf.cond(its_turn, observe, lambda: tf.constant(False))

    def _mixed_loss(
        self, batch: SampledBatch, per_sampler: tf.Tensor, example_weight: tf.Tensor
    ) -> tf.Tensor:
        """The mixed loss with its regularization, averaged over the global batch."""
        weights = tf.gather(self._mixture_weights(), self._active)
        available = has_loss(batch, self._loss)
        shares = mixture.example_weights(weights, available)  # [batch, active]
        if self.mixing == "loss":
            mixed = mixture.mix_losses(per_sampler, shares)
        else:
            mixed = self._instance_loss(batch, shares)
        has_negative = tf.cast(tf.reduce_any(available, axis=1), tf.float32)
        row_weights = example_weight * has_negative
        columns = batch.weights * tf.matmul(tf.stop_gradient(shares), batch.owners.T)
        penalty = mean_penalty(self.model, batch, columns, row_weights)
        loss = mean_over_batch(mixed, row_weights) + self.l2 * penalty
        auxiliary = tf.reduce_sum(tf.stop_gradient(weights) * batch.auxiliary_losses)
        return loss + tf.nn.scale_regularization_loss(auxiliary)

    def _instance_loss(self, batch: SampledBatch, shares: tf.Tensor) -> tf.Tensor:
        context, score = batch.context, batch.context.score
        negative = mixture.mix_embeddings(sampler_embeddings(batch.columns()), shares)
        positive_scores = score(context.user_embeddings, context.positive_embeddings)
        negative_scores = score(context.user_embeddings, negative)
        return self._loss.of_pairs(positive_scores, negative_scores[:, None])[:, 0]

    def _mixture_weights(self) -> tf.Tensor:
        warming_up = self.logits_optimizer.iterations < self._warmup_steps
        logits = tf.where(warming_up, tf.zeros_like(self.logits), self.logits)
        return mixture.mixture_weights(logits, self.active_mask, self.temperature)

    def _told(self, batch: SampledBatch, weight: tf.Tensor, of_loss: tf.Tensor) -> Told:
        return Told(
            batch,
            example_weight=weight,
            of_loss=of_loss,
            logits=tf.convert_to_tensor(self.logits),
            weights=self._mixture_weights(),
            active=tf.convert_to_tensor(self.active_mask),
            places=self._active,
            temperature=self.temperature,
        )

    def _record(self, loss: tf.Tensor, per_sampler: tf.Tensor, example_weight: tf.Tensor) -> None:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        means = mean_over_batch(per_sampler, example_weight[:, None]) * replicas
        self.loss_mean.update_state(loss * replicas)
        self.sampler_loss_means.update_state(
            tf.scatter_nd(tf.constant(self._active)[:, None], means, tf.shape(self.logits))
        )

    def _logs(self) -> dict[str, tf.Tensor]:
        """What callbacks are told: means since the epoch began, and the mixture."""
        # Unstacked, not indexed: one operation instead of one a sampler.
        losses_so_far = tf.unstack(self.sampler_loss_means.result())
        weights = tf.unstack(self._mixture_weights())
        logs = {"loss": self.loss_mean.result()}
        for k in self._active:
            logs[f"loss/{self.specs[k]}"] = losses_so_far[k]
            logs[f"weight/{self.specs[k]}"] = weights[k]
        if isinstance(self.model, Featured):
            logs["staleness"] = self.model.staleness.result()
        return logs


def _apply(
    optimizer: tf.keras.optimizers.Optimizer, gradients: list[Any], variables: list[tf.Variable]
) -> None:
    """Moves the variables, by the gradients' sums over the replicas.

    Of one replica there is nothing to sum, and TensorFlow would keep the step's graph for as
    long as the process lives: its sum has a gradient of its own, which is registered for good.
    """
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    pairs = zip(gradients, variables, strict=True)
    optimizer.apply_gradients(pairs, skip_gradients_aggregation=alone)


def _optimizer(
    given: tf.keras.optimizers.Optimizer | str | None,
) -> tf.keras.optimizers.Optimizer | None:
    return tf.keras.optimizers.get(given) if isinstance(given, str) else given


def _check(
    mixing: str, temperature: float | None, l2: float, health_every: int, users_per_pool: int
) -> None:
    for name, count in (("health_every", health_every), ("users_per_pool", users_per_pool)):
        if count < 1:
            raise expected(f"a {name} of at least 1", received=count, remedy="Raise it.")
    if mixing not in MIXINGS:
        raise unknown("mixing", mixing, MIXINGS)
    if temperature is not None and not (temperature > 0 and fits_float32(temperature)):
        raise expected("a temperature above 0, in float32", received=temperature,
                       remedy="Choose another.")  # fmt: skip
    if not (l2 >= 0 and fits_float32(l2)):
        raise expected("an l2 of at least 0, in float32", received=l2, remedy="Choose another.")


def _initial_logits(
    specs: list[str], weights: Mapping[str, float] | None, temperature: float
) -> np.ndarray:
    if weights is None:
        return np.zeros(len(specs), np.float32)
    given = np.array([weights.get(spec, 0.0) for spec in specs])
    if not (given > 0).all() or len(weights) != len(specs):
        raise expected(
            f"a weight above 0 for each of {', '.join(specs)}",
            received=dict(weights),
            remedy="Name the samplers by their canonical specs and leave none out.",
        )
    return (temperature * np.log(given / given.sum())).astype(np.float32)

"""ModelView: the model of a run, as callbacks may look at it. Used by `run.py` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from yolo_callbacks.trainer.model.activation_watch import ActivationWatch
from yolo_callbacks.trainer.model.gradient_watch import GradientWatch, OptimizerStep
from yolo_callbacks.trainer.model.graph import prepare_graph
from yolo_callbacks.trainer.model.layers import find_layers, is_compiled, parameter_parts, trainable_parameters
from yolo_callbacks.trainer.model.predictions import Predicted, watch_validation
from yolo_callbacks.trainer.model.probes import Probes
from yolo_callbacks.trainer.model.tensor_sample import Sample, sample


class ModelView:
    """What no event shows: layers and parameters by name, gradients, activations, what a validation predicts.

    Nothing that is looked at through it is changed by it. It is `session.run.model`.

    Args:
        trainer: An Ultralytics trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._probes: Probes | None = None

    def begin_epoch(self) -> None:
        """Begin to count, and to look, anew: an epoch starts, or starts again."""
        if self._probes is not None:
            self._probes.begin_epoch()

    def release(self) -> None:
        """End every watch, and let go of the trainer."""
        if self._probes is not None:
            self._probes.remove()
        self._trainer = self._probes = None

    @property
    def uses_grad_scaler(self) -> bool:
        """Whether automatic mixed precision scales the loss, and skips a step whose gradients are not finite."""
        scaler = getattr(self._trainer, "scaler", None)
        return bool(scaler is not None and scaler.is_enabled())

    @property
    def is_compiled(self) -> bool:
        """Whether the model goes through torch.compile, whose layers cannot be watched."""
        return is_compiled(self._trainer)

    def parameter_parts(self) -> dict[str, str]:
        """Return for each parameter of the model which part it is in.

        Parts are `backbone`, `neck` and `head` where Ultralytics has built the model from its YAML, top-level modules
        elsewhere. The names are those of the model itself, without what several ranks or torch.compile wrap it in.
        """
        return parameter_parts(self._trainer)

    def trainable_parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters that are trained now."""
        return trainable_parameters(self._trainer)

    def find_layers(self, wanted: Sequence[str | int] | None = None) -> tuple[str, ...]:
        """Return the names of layers of the model.

        Args:
            wanted: Names (`"model.4"`), patterns (`"model.2.m.*"`) or numbers of top-level layers (`-2`); None for
                the layers that the last one takes its input from.

        Raises:
            ValueError: If there is no such layer, too many match, or one is in several places of the model.
        """
        return find_layers(self._trainer, wanted)

    def watch_gradients(
        self,
        who: str,
        look: Callable[[OptimizerStep], None],
        *,
        every_n_steps: int = 1,
        clipped: Callable[[OptimizerStep], None] | None = None,
        done: Callable[[bool, Any], None] | None = None,
        begin: Callable[[], None] | None = None,
    ) -> GradientWatch:
        """Look at the gradients of sampled steps of the optimizer. Rank 0; it ends with the run at the latest.

        The functions must not change what they see, and should not wait for the device: what they keep of it stays
        there until `measure`. An error in one is logged once and ends the watch, not the training.

        Args:
            who: What the log line of an error calls it.
            look: Called when all gradients are there, reduced over the ranks, before they are unscaled and clipped.
            every_n_steps: Look at the first step of an epoch and at every Nth step after it.
            clipped: Called as the optimizer begins its step, with unscaled and clipped gradients; not called in a
                step that is skipped.
            done: Called after the step: whether the optimizer was called, and, where the loss is scaled, a tensor
                that tells whether the step was skipped because gradients were not finite.
            begin: Called when an epoch starts, or starts again after NaN or after running out of memory.

        Returns:
            What ends it: `watch.remove()`.

        Example:
            ```python
            def look(step):
                weight = step.gradients["model.0.conv.weight"] / step.scale
                self.kept.append(weight.abs().max())

            watch = session.run.model.watch_gradients("Mine", look, every_n_steps=50)
            ```
        """
        return self._look().watch_gradients(who, look, every_n_steps, clipped, done, begin)

    def watch_activations(
        self,
        who: str,
        layers: Iterable[str],
        look: Callable[[int, str, Any], None],
        *,
        every_n_batches: int = 1,
        begin: Callable[[], None] | None = None,
    ) -> ActivationWatch:
        """Look at the outputs of layers in sampled batches of the training. Rank 0; it ends with the run at the latest.

        What holds for `watch_gradients` holds here. The outputs are those of this rank's images, and still part of
        the graph: look at `output.detach()`.

        Args:
            who: What the log line of an error calls it.
            layers: Names of layers, from `find_layers`.
            look: Called with the number of the batch in its epoch, counted from 1, the layer's name and its output.
            every_n_batches: Look at the first batch of an epoch and at every Nth batch after it.
            begin: Called when an epoch starts, or starts again.

        Returns:
            What ends it: `watch.remove()`.
        """
        return self._look().watch_activations(who, layers, look, every_n_batches, begin)

    def watch_validation(self, who: str, most: int, look: Callable[[Sequence[Predicted]], None]) -> Callable[[], None]:
        """Look at the first pictures of the next validation, with their labels and predictions. Rank 0.

        Nothing is predicted for it, and the validation goes on as it would have. An error is logged.

        Args:
            who: What the log line of an error calls it.
            most: The most pictures, all of them from the first batch.
            look: Called with them, copied, in the middle of the validation.

        Returns:
            What ends it before that. May be called again.
        """
        return watch_validation(self._trainer, who, most, look)

    def sample_weights(self, most: int) -> Sample:
        """Return numbers of each parameter of the model that is validated and saved: the moving average. Rank 0.

        Args:
            most: The most numbers of one parameter.
        """
        return sample(dict(self._validated_model().named_parameters()), most)

    def prepare_graph(self) -> Callable[[], Any]:
        """Copy the model, and return what traces the copy with TorchScript, on any thread. Rank 0."""
        channels = int((self._trainer.data or {}).get("channels", 3))
        return prepare_graph(self._validated_model(), channels, int(self._trainer.args.imgsz))

    def _validated_model(self) -> Any:
        trainer = self._trainer
        return trainer.ema.ema if trainer.ema is not None else trainer.model

    def _look(self) -> Probes:
        self._probes = self._probes or Probes(self._trainer)
        return self._probes

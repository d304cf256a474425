"""ModelView: a read-only view of a run's model for callbacks. Created only by `run.py`."""

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
    """What no event shows: layers and parameters by name, gradients, activations, predictions of the validation.

    It changes nothing in the training. Get it as `session.run.model`.

    Args:
        trainer: An Ultralytics trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._probes: Probes | None = None

    def begin_epoch(self) -> None:
        """Begin an epoch, or a repeated one: restart counting and sampling."""
        if self._probes is not None:
            self._probes.begin_epoch()

    def release(self) -> None:
        """End every watch, and drop the trainer."""
        if self._probes is not None:
            self._probes.remove()
        self._trainer = self._probes = None

    @property
    def uses_grad_scaler(self) -> bool:
        """Whether automatic mixed precision scales the loss, and skips steps with non-finite gradients."""
        scaler = getattr(self._trainer, "scaler", None)
        return bool(scaler is not None and scaler.is_enabled())

    @property
    def is_compiled(self) -> bool:
        """Whether the model uses torch.compile; its layers cannot be watched then."""
        return is_compiled(self._trainer)

    def parameter_parts(self) -> dict[str, str]:
        """Return the part of the model that each parameter belongs to.

        Parts are `backbone`, `neck` and `head` if Ultralytics has built the model from its YAML, otherwise the
        top-level modules. The names are those of the model itself, without the wrappers of DDP or torch.compile.
        """
        return parameter_parts(self._trainer)

    def trainable_parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters that are currently trained."""
        return trainable_parameters(self._trainer)

    def find_layers(self, wanted: Sequence[str | int] | None = None) -> tuple[str, ...]:
        """Return the names of layers of the model.

        Args:
            wanted: Names (`"model.4"`), patterns (`"model.2.m.*"`) or numbers of top-level layers (`-2`); None for
                the layers that feed the last one.

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
        """Watch the gradients of sampled optimizer steps. Rank 0; ends with the run at the latest.

        The functions must not change what they get, and should not wait for the device: keep results there until
        `measure`. An error in one is logged once and ends the watch, not the training.

        Args:
            who: The watcher's name in the log.
            look: Called when all gradients are reduced over the ranks, before they are unscaled and clipped.
            every_n_steps: Sample the first step of an epoch and every Nth step after it.
            clipped: Called when the optimizer begins its step, with unscaled and clipped gradients; not called if the
                step is skipped.
            done: Called after the step with whether the optimizer was called and, if the loss is scaled, a tensor
                that is true if the step was skipped because of non-finite gradients.
            begin: Called when an epoch starts, or restarts after NaN or running out of memory.

        Returns:
            The watch; `watch.remove()` ends it.

        Example:
            ```python
            def look(step):
                weight = step.gradients["model.0.conv.weight"] / step.scale
                self.kept.append(weight.abs().max())

            watch = session.run.model.watch_gradients("Mine", look, every_n_steps=50)
            ```
        """
        return self._watches().watch_gradients(who, look, every_n_steps, clipped, done, begin)

    def watch_activations(
        self,
        who: str,
        layers: Iterable[str],
        look: Callable[[int, str, Any], None],
        *,
        every_n_batches: int = 1,
        begin: Callable[[], None] | None = None,
    ) -> ActivationWatch:
        """Watch the outputs of layers in sampled training batches. Rank 0; ends with the run at the latest.

        The rules of `watch_gradients` apply. The outputs are those of this rank's images, and still part of the
        autograd graph: use `output.detach()`.

        Args:
            who: The watcher's name in the log.
            layers: Names of layers, from `find_layers`.
            look: Called with the number of the batch in its epoch, counted from 1, the layer's name and its output.
            every_n_batches: Sample the first batch of an epoch and every Nth batch after it.
            begin: Called when an epoch starts or restarts.

        Returns:
            The watch; `watch.remove()` ends it.
        """
        return self._watches().watch_activations(who, layers, look, every_n_batches, begin)

    def watch_validation(self, who: str, most: int, look: Callable[[Sequence[Predicted]], None]) -> Callable[[], None]:
        """Watch the first images of the next validation, with their labels and predictions. Rank 0.

        No extra predictions are made, and the validation is unchanged. An error is logged.

        Args:
            who: The watcher's name in the log.
            most: The largest number of images; all are from the first batch.
            look: Called with copies of them, during the validation.

        Returns:
            A function that ends the watch early. May be called again.
        """
        return watch_validation(self._trainer, who, most, look)

    def sample_weights(self, most: int) -> Sample:
        """Return values of each parameter of the model that is validated and saved (the EMA). Rank 0.

        Args:
            most: The largest number of values per parameter.
        """
        return sample(dict(self._validated_model().named_parameters()), most)

    def prepare_graph(self) -> Callable[[], Any]:
        """Copy the model, and return a function that traces the copy with TorchScript, on any thread. Rank 0."""
        channels = int((self._trainer.data or {}).get("channels", 3))
        return prepare_graph(self._validated_model(), channels, int(self._trainer.args.imgsz))

    def _validated_model(self) -> Any:
        trainer = self._trainer
        return trainer.ema.ema if trainer.ema is not None else trainer.model

    def _watches(self) -> Probes:
        self._probes = self._probes or Probes(self._trainer)
        return self._probes

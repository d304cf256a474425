"""Training callbacks for Ultralytics YOLO.

The names are imported when they are first used, so that `import yolo_callbacks` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo_callbacks.attachment import Attachment, attach, detach
    from yolo_callbacks.callback import Callback, Priority
    from yolo_callbacks.callbacks.activation_monitor import ActivationMonitor
    from yolo_callbacks.callbacks.backup_and_restore import BackupAndRestore
    from yolo_callbacks.callbacks.csv_logger import CSVLogger
    from yolo_callbacks.callbacks.early_stopping import EarlyStopping
    from yolo_callbacks.callbacks.freeze_backbone import FreezeBackbone
    from yolo_callbacks.callbacks.gradient_monitor import GradientMonitor
    from yolo_callbacks.callbacks.learning_rate_scheduler import LearningRateScheduler
    from yolo_callbacks.callbacks.mlflow import MLflow
    from yolo_callbacks.callbacks.model_checkpoint import ModelCheckpoint
    from yolo_callbacks.callbacks.notify import Notify
    from yolo_callbacks.callbacks.per_class_metrics import PerClassMetrics
    from yolo_callbacks.callbacks.platform_logger import PlatformLogger
    from yolo_callbacks.callbacks.plot_logger import PlotLogger
    from yolo_callbacks.callbacks.preemption_handler import PreemptionHandler
    from yolo_callbacks.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
    from yolo_callbacks.callbacks.remote_monitor import RemoteMonitor
    from yolo_callbacks.callbacks.tensorboard import TensorBoard
    from yolo_callbacks.config import ConfigError, load_config
    from yolo_callbacks.core.decision import (
        Decision,
        Finish,
        SaveCheckpoint,
        SetFrozen,
        SetLearningRate,
        Stop,
        StopReason,
    )
    from yolo_callbacks.core.metrics import UnknownMetricError
    from yolo_callbacks.core.record import EpochRecord, History, Plan
    from yolo_callbacks.core.recovery import newest_checkpoint
    from yolo_callbacks.defaults import default_callbacks
    from yolo_callbacks.replaying.replay import replay
    from yolo_callbacks.replaying.report import ReplayReport
    from yolo_callbacks.tuning import callbacks_in_trials

__version__ = "0.1.0"

_HOME = {
    "ActivationMonitor": "callbacks.activation_monitor",
    "Attachment": "attachment",
    "BackupAndRestore": "callbacks.backup_and_restore",
    "CSVLogger": "callbacks.csv_logger",
    "Callback": "callback",
    "ConfigError": "config",
    "Decision": "core.decision",
    "EarlyStopping": "callbacks.early_stopping",
    "EpochRecord": "core.record",
    "Finish": "core.decision",
    "FreezeBackbone": "callbacks.freeze_backbone",
    "GradientMonitor": "callbacks.gradient_monitor",
    "History": "core.record",
    "LearningRateScheduler": "callbacks.learning_rate_scheduler",
    "MLflow": "callbacks.mlflow",
    "ModelCheckpoint": "callbacks.model_checkpoint",
    "Notify": "callbacks.notify",
    "PerClassMetrics": "callbacks.per_class_metrics",
    "Plan": "core.record",
    "PlatformLogger": "callbacks.platform_logger",
    "PlotLogger": "callbacks.plot_logger",
    "PreemptionHandler": "callbacks.preemption_handler",
    "Priority": "callback",
    "ReduceLROnPlateau": "callbacks.reduce_lr_on_plateau",
    "RemoteMonitor": "callbacks.remote_monitor",
    "ReplayReport": "replaying.report",
    "SaveCheckpoint": "core.decision",
    "SetFrozen": "core.decision",
    "SetLearningRate": "core.decision",
    "Stop": "core.decision",
    "StopReason": "core.decision",
    "TensorBoard": "callbacks.tensorboard",
    "UnknownMetricError": "core.metrics",
    "attach": "attachment",
    "callbacks_in_trials": "tuning",
    "default_callbacks": "defaults",
    "detach": "attachment",
    "load_config": "config",
    "newest_checkpoint": "core.recovery",
    "replay": "replaying.replay",
}

__all__ = [
    "ActivationMonitor",
    "Attachment",
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "ConfigError",
    "Decision",
    "EarlyStopping",
    "EpochRecord",
    "Finish",
    "FreezeBackbone",
    "GradientMonitor",
    "History",
    "LearningRateScheduler",
    "MLflow",
    "ModelCheckpoint",
    "Notify",
    "PerClassMetrics",
    "Plan",
    "PlatformLogger",
    "PlotLogger",
    "PreemptionHandler",
    "Priority",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "ReplayReport",
    "SaveCheckpoint",
    "SetFrozen",
    "SetLearningRate",
    "Stop",
    "StopReason",
    "TensorBoard",
    "UnknownMetricError",
    "__version__",
    "attach",
    "callbacks_in_trials",
    "default_callbacks",
    "detach",
    "load_config",
    "newest_checkpoint",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

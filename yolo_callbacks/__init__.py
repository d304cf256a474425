"""Training callbacks for Ultralytics YOLO.

Each public name is imported when it is first used, so that `import yolo_callbacks` is fast. Type checkers read
`__init__.pyi`, which a frozen program lacks; a test keeps the two files equal.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "_version": ["__version__"],
        "attachment": ["Attachment", "attach", "detach"],
        "callback": ["Callback"],
        "callbacks.activation_monitor": ["ActivationMonitor"],
        "callbacks.backup_and_restore": ["BackupAndRestore"],
        "callbacks.csv_logger": ["CSVLogger"],
        "callbacks.early_stopping": ["EarlyStopping"],
        "callbacks.export_check": ["ExportCheck"],
        "callbacks.extra_validation": ["ExtraValidation"],
        "callbacks.freeze_backbone": ["FreezeBackbone"],
        "callbacks.gradient_monitor": ["GradientMonitor"],
        "callbacks.learning_rate_scheduler": ["LearningRateScheduler"],
        "callbacks.mlflow": ["MLflow"],
        "callbacks.model_checkpoint": ["ModelCheckpoint"],
        "callbacks.notify": ["Notify"],
        "callbacks.per_class_metrics": ["PerClassMetrics"],
        "callbacks.platform_logger": ["PlatformLogger"],
        "callbacks.plot_logger": ["PlotLogger"],
        "callbacks.preemption_handler": ["PreemptionHandler"],
        "callbacks.reduce_lr_on_plateau": ["ReduceLROnPlateau"],
        "callbacks.remote_monitor": ["RemoteMonitor"],
        "callbacks.system_monitor": ["SystemMonitor"],
        "callbacks.tensorboard": ["TensorBoard"],
        "callbacks.watchdog": ["Watchdog"],
        "callbacks.validation_schedule": ["ValidationSchedule"],
        "config": ["ConfigError", "load_config"],
        "core.decision": ["Decision", "Finish", "SaveCheckpoint", "SetFrozen", "SetLearningRate", "Stop", "StopReason"],
        "core.metrics": ["UnknownMetricError"],
        "core.record": ["EpochRecord", "History", "Plan"],
        "core.rule": ["Priority"],
        "defaults": ["default_callbacks"],
        "extending": ["extend"],
        "lr_finding": ["LRFindResult", "lr_find"],
        "replaying.replay": ["replay"],
        "replaying.report": ["ReplayReport"],
        "run_dir.recovery": ["newest_checkpoint"],
        "tuning": ["callbacks_in_trials"],
    },
)

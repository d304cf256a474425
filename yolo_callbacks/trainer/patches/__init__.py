"""Everything that is changed in Ultralytics' trainer, each with its undo."""

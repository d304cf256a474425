"""A `classes.csv` of any values, written as a training writes it."""

from yolo_callbacks.core.classes import Classes, ClassResults, distinct
from yolo_callbacks.run_dir.class_log import ClassLog


def table(folder, names, epochs, value, metrics=("recall", "mAP50-95"), main="mAP50-95"):
    """Write a table; `value(index, epoch)` is None for a class that does not occur."""
    classes = Classes(distinct(names), metrics, main)
    path = folder / "run" / "callbacks" / "classes.csv"
    log = ClassLog(path, classes, 0)
    log.begin()
    for epoch in epochs:
        values = [value(index, epoch) for index in range(len(classes.names))]
        column = {name: values if name == main else [None if v is None else 1.0 for v in values] for name in metrics}
        log.add(epoch, ClassResults(classes, column, [0 if v is None else 3 for v in values]))
    return path

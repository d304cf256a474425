"""`replay`: stopping rules over logged runs."""

from __future__ import annotations

from yolo_callbacks.core.record import History
from yolo_callbacks.core.system_findings import SystemFold
from yolo_callbacks.replaying.logged_run import read_run
from yolo_callbacks.replaying.outcome import Outcome, outcomes
from yolo_callbacks.replaying.report import ReplayReport
from yolo_callbacks.replaying.rules import Rules, rules_of
from yolo_callbacks.replaying.search import Paths, Skipped, find_logs
from yolo_callbacks.run_dir.results_log import UnusableError


def replay(runs: Paths, rules: Rules = None) -> ReplayReport:
    """Find out when callbacks would have stopped logged runs, and what that would have saved and lost.

    The decisions are made by the code that makes them in a training. A run is read from this package's journal if it
    has one, else from `results.csv`: Ultralytics' of any version, or YOLOv5's. Nothing is trained, and neither torch
    nor Ultralytics is imported.

    Args:
        runs: A run directory, a directory of runs, a `results.csv`, a glob, or several of them.
        rules: Rules by name, or a single one. A rule is a callback, a list of them, or a YAML file. None compares
            `EarlyStopping` with several patiences. Defaults to None.

    Returns:
        The report. Runs that could not be replayed are in its `skipped`.

    Raises:
        TypeError: If a rule does not consist of callbacks.
        ValueError: If callbacks conflict, or nothing could be replayed; the message says why.

    Example:
        ```python
        rules = {f"patience {p}": [ycb.EarlyStopping(patience=p)] for p in (10, 20, 50, 0.3)}
        report = ycb.replay("runs/", rules)
        print(report)  # one line per rule: saved, lost, worst run
        report.table  # pandas DataFrame, one row per rule and run
        report.plot("pareto.png")
        ```
    """
    chosen = rules_of(rules)
    logs, skipped = find_logs(runs)
    found: list[Outcome] = []
    findings: dict[str, list[str]] = {}
    replayed = unknown = 0
    for files in logs:
        try:
            run = read_run(files)
        except (UnusableError, OSError) as error:
            reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            skipped.append(Skipped(str(files.results or files.journal), reason))
            continue
        results = list(outcomes(run, chosen))
        problems = [item for item in results if isinstance(item, Skipped)]
        skipped += problems
        if len(problems) < len(chosen):
            found += [item for item in results if isinstance(item, Outcome)]
            replayed, unknown = replayed + 1, unknown + (not run.arguments_known)
            told = History(run.plan, run.records).fold(SystemFold()).findings.values()
            findings |= {run.name: [f"epoch {item.epoch}: {item.message}" for item in told]} if told else {}
    if not replayed:
        raise NothingReplayedError(skipped)
    return ReplayReport(found, skipped, replayed, unknown, findings)


class NothingReplayedError(ValueError):
    """There was nothing to replay.

    Attributes:
        skipped: What was not replayed, and why.
    """

    def __init__(self, skipped: list[Skipped]) -> None:
        shown = "; ".join(map(str, skipped[:3])) + (f"; and {len(skipped) - 3} more" if len(skipped) > 3 else "")
        super().__init__(f"nothing could be replayed: {shown or 'no run was given'}")
        self.skipped = skipped

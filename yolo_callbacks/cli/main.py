"""`yolo-cb`: the commands and their options. Anything heavy is imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from yolo_callbacks._version import __version__
from yolo_callbacks.cli.completion import TrainCommand, complete_argument, complete_callback, complete_run


class Commands(TyperGroup):
    """Shows an unexpected error as one line; with -v, with its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            known = hasattr(error, "exit_code") or isinstance(error, (typer.Abort, BrokenPipeError))
            if known or ctx.params.get("verbose"):
                raise
            again = " ".join(["yolo-cb -v", ctx.invoked_subcommand or "", "..."])
            typer.echo(f"Error: {type(error).__name__}: {error}\nFor the traceback: {again}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="yolo-cb",
    cls=Commands,
    help="Train Ultralytics YOLO with callbacks: early stopping, checkpoints, learning-rate control, logs, plots.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # importing rich takes longer than everything else that --help needs
)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yolo-callbacks {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an unexpected error: yolo-cb -v COMMAND.")
    ] = False,
) -> None:
    pass


@app.command(cls=TrainCommand, context_settings={"ignore_unknown_options": True})
def train(
    extra: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Ultralytics' arguments, as key=value or --key value.",
            autocompletion=complete_argument,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset: name or path of a YAML, as for Ultralytics. Without it, the built-in shapes. 'demo': coco8 "
            "if it and yolo26n.pt are found or can be downloaded, else the shapes."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model: .pt or .yaml. Without it, yolo26n.pt if available, else yolo26n.yaml."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file that lists the callbacks. Without it, the five defaults.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            autocompletion=complete_run,
            help="Resume an interrupted run: its directory (from the newest checkpoint that loads), or a checkpoint. "
            "With --epochs, train it for more epochs, even if it has ended.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="What the learning rate does in these epochs: 'rewarm' raises it to the initial rate and lets it "
            "fall again (default), 'continue' recomputes the schedule for all epochs, 'hold' keeps the last rate."
        ),
    ] = None,
    protect: Annotated[
        bool,
        typer.Option(
            "--protect/--no-protect",
            help="Keep a second, verified checkpoint, and save on SIGTERM and SIGUSR1: BackupAndRestore and "
            "PreemptionHandler, in addition to what --config lists.",
        ),
    ] = True,
    standin: Annotated[
        bool,
        typer.Option(
            "--standin/--no-standin",
            help="If coco8 cannot be downloaded: use generated images, or fail.",
        ),
    ] = True,
) -> None:
    """Train a model. Every Ultralytics argument can follow, as key=value or --key value.

    For example: yolo-cb train --data coco8.yaml --epochs 50 imgsz=640 cos_lr=True

    Ctrl-C finishes the epoch and saves everything; a second Ctrl-C stops immediately. SIGTERM and SIGUSR1 end the
    training after the current batch, with a checkpoint that --resume continues from.

    Exit codes: 0 success or early stop, 1 failure or a rejected export, 2 bad usage, 130 interrupted, 143 and 138 after
    SIGTERM and SIGUSR1.
    """
    from yolo_callbacks.cli.train import TrainRequest, train_command

    request = TrainRequest(
        data=data,
        model=model,
        epochs=epochs,
        config=config,
        resume=resume,
        schedule=schedule,
        protect=protect,
        standin=standin,
        extra=extra or [],
    )
    raise typer.Exit(train_command(request))


@app.command(
    "lr-find",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[OPTIONS] [KEY=VALUE]...",
)
def lr_find(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="Dataset, as for train.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, as for train.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs that you plan; optimizer=auto depends on it.")
    ] = None,
    min_lr: Annotated[float, typer.Option(help="First learning rate.")] = 1e-6,
    max_lr: Annotated[float, typer.Option(help="Last learning rate.")] = 1.0,
    num_training: Annotated[int, typer.Option(help="Number of steps of the optimizer.")] = 100,
    mode: Annotated[str, typer.Option(help="How the rate grows: exponential or linear.")] = "exponential",
    early_stop_threshold: Annotated[
        float, typer.Option(help="End when the running loss exceeds so many times its best value.")
    ] = 4.0,
    picture: Annotated[Path, typer.Option(help="Where to draw the curve; an existing picture is replaced.")] = Path(
        "lr-find.png"
    ),
) -> None:
    """Suggest a learning rate: train some steps with a rising one, in a temporary folder (a range test).

    For example: yolo-cb lr-find --data coco8.yaml --epochs 100 optimizer=AdamW

    The suggestion holds for the optimizer that was used. optimizer=auto ignores lr0: what it would choose is printed.

    Exit codes: 0 if there is a suggestion, 1 if not, 2 bad usage.
    """
    from yolo_callbacks.cli.lr_find import LRFindRequest, lr_find_command

    request = LRFindRequest(
        data=data,
        model=model,
        epochs=epochs,
        min_lr=min_lr,
        max_lr=max_lr,
        num_training=num_training,
        mode=mode,
        early_stop_threshold=early_stop_threshold,
        picture=picture,
        extra=context.args,
    )
    raise typer.Exit(lr_find_command(request))


@app.command()
def replay(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run directories, directories of runs, results.csv files, globs. A run directory is replayed from its "
            "journal if it has one; a file, from that file alone. Without any: ./runs if there is one, else "
            "Ultralytics' runs_dir.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="YAML file that lists callbacks: one more rule. Can be repeated.")
    ] = None,
    patience: Annotated[
        str | None,
        typer.Option(
            help="EarlyStopping with each of these patiences: epochs, shares of the planned epochs, or auto. For "
            "example 10,20,0.3,auto. Without this and --config, several are compared."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write summary.csv, runs.csv, decisions.csv, report.json and pareto.png here. An existing folder "
            "is kept: the files go to FOLDER-2.",
        ),
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Show each run, and every file that was skipped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what stopping rules would have saved and lost on runs you already have. Nothing is trained.

    For example: yolo-cb replay runs/ --patience 10,50,0.3,auto --config callbacks.yaml --out replayed

    Reads this package's journal, and results.csv of Ultralytics (any version) and YOLOv5. The table ends with two
    hindsight baselines (oracles), which know the whole run.

    Exit codes: 0 if anything was replayed, 1 if FOLDER cannot be written, 2 if nothing was replayed or bad usage.
    """
    from yolo_callbacks.cli.replay import ReplayRequest, replay_command

    raise typer.Exit(replay_command(ReplayRequest(runs or [], config or [], patience, out, details, as_json)))


@app.command()
def callbacks(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=complete_callback,
            help="A callback, to show it in full.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every callback, or show one: its parameters, their defaults, and a snippet for --config.

    For example: yolo-cb callbacks EarlyStopping

    Exit codes: 0 success, 2 no such callback.
    """
    from yolo_callbacks.cli.list_callbacks import callbacks_command

    raise typer.Exit(callbacks_command(name, as_json))


@app.command()
def runs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="A directory of runs, however deep, or one run. Without it, ./runs if there is one, else Ultralytics' "
            "runs_dir.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a directory, newest first: state, best metric, epochs, age and size.

    States: running, stalled (its process lives but makes no progress), finished, stopped (early, by a callback or
    Ultralytics), interrupted, preempted, failed, killed. Runs made without yolo-callbacks are listed, too.

    Exit codes: 0 success, 2 no such directory or no run in it.
    """
    from yolo_callbacks.cli.list_runs import runs_command

    raise typer.Exit(runs_command(folder, as_json))


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run directories, directories of runs, globs. The first run is the reference.",
        ),
    ],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line per run, comma-separated, instead.")] = False,
) -> None:
    """Compare runs: best metrics, whether the validation set can tell them apart, time, and differing settings.

    For example: yolo-cb compare runs/detect/train runs/detect/train2

    Runs made without yolo-callbacks can be compared, too.

    Exit codes: 0 success, 2 fewer than two runs or bad usage.
    """
    from yolo_callbacks.cli.compare import compare_command

    raise typer.Exit(compare_command(runs, as_json, as_csv))


def run() -> None:
    """Run the command line; the entry point of `yolo-cb`."""
    app(prog_name="yolo-cb")

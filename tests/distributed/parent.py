"""The process that a user starts: it attaches callbacks, trains, and looks at what it has got."""

import contextlib
import gc
import pickle
import sys
from pathlib import Path

from ultralytics import YOLO
from ultralytics.engine import trainer as engine

import yolo_callbacks as ycb
from yolo_callbacks.cli.interrupts import forward_signals


def with_our_torchrun(generate):
    """Return the function that makes the command of a launch, with `tests.distributed.torchrun` for torchrun."""

    def generate_ddp_command(trainer):
        command, file = generate(trainer)
        command[command.index("torch.distributed.run")] = "tests.distributed.torchrun"
        return command, file

    return generate_ddp_command


engine.generate_ddp_command = with_our_torchrun(engine.generate_ddp_command)


def main(task_file, answer_file):
    answers = []
    run = train(pickle.loads(Path(task_file).read_bytes()), answers)
    gc.collect()
    answers.append(look(run))  # the model is gone
    Path(answer_file).write_bytes(pickle.dumps(answers))


def train(task, answers):
    model = YOLO(task["model"], verbose=False)
    run = ycb.attach(model, task["callbacks"]())
    for event, function in task["functions"]:
        model.add_callback(event, function)
    with forward_signals(model) if task["pass_on"] else contextlib.nullcontext():
        for arguments in task["trainings"]:
            model.train(trainer=task["trainer"], **arguments)
            answers.append({**look(run), "checkpoint": str(model.ckpt_path or model.overrides["model"])})
    return run


def look(run):
    return {
        "history": run.history,
        "decisions": run.decisions,
        "stop_reason": run.stop_reason,
        "stop_message": run.stop_message,
        "save_dir": run.save_dir,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])

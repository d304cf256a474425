"""`python -m yolo_callbacks`: the same as `yolo-cb`."""

from yolo_callbacks.cli.main import run

if __name__ == "__main__":
    run()

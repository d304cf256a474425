"""`python -m yolo_callbacks` is `yolo-cb`."""

from yolo_callbacks.cli.main import run

if __name__ == "__main__":
    run()

"""The command line, `yolo-cb`."""

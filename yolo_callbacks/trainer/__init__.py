"""The facade over Ultralytics' trainer: all that reads or changes one is in here, and `run.py` is its door."""

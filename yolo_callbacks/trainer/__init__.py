"""The facade over Ultralytics' trainer. Only this package reads or changes one; `run.py` is its door."""

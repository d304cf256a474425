"""Replay: what stopping rules would have done to logged runs. Imports neither torch nor Ultralytics."""

"""Replay: what stopping rules would have done to runs that are logged already. Neither torch nor Ultralytics."""

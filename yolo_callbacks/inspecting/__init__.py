"""Runs seen from outside: what there is, in which state, what differs. Neither torch nor Ultralytics is imported."""

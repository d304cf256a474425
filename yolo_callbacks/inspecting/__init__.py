"""Runs seen from outside: what there is, in which state, and what differs. Neither torch nor Ultralytics is imported."""

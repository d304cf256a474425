"""Verified exports of checkpoints, made in a separate process."""

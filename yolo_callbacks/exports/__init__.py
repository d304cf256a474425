"""Verified exports of checkpoints, made in a process of their own."""

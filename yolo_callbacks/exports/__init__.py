"""Exports of checkpoints, each of them proved in a process of its own."""

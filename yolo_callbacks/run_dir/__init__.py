"""Reads and writes the files of a run directory: journal, run.json, checkpoints, results.csv."""

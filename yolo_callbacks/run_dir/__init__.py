"""What lies in a run directory: journal, run.json, checkpoints, results.csv; read and written."""

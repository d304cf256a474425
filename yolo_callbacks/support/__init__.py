"""What every other package may use: storage, threads, log, secrets, argument checks. It knows nothing of callbacks."""

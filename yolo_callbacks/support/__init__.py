"""What every package may use: storage, threads, log, secrets, argument checks. It knows nothing about callbacks."""

"""One training with its callbacks: carries each epoch from the trainer to the ledger and into force."""

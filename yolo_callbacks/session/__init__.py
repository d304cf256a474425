"""One training with its callbacks: passes each epoch from the trainer to the ledger, and applies the decisions."""

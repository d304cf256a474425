"""What the callbacks stand on: records, decisions, monitors, the ledger, and the facade over the trainer."""

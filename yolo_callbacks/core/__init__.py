"""What the callbacks stand on: records, decisions, monitors, the ledger, the journal, storage, and the session."""

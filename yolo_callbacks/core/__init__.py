"""The pure core: records, metrics, rules, decisions and the ledger. No torch, no trainer, no files."""

"""The public callbacks, one per file."""

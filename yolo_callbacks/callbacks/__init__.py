"""The callbacks, one a file."""

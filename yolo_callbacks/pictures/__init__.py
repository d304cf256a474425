"""Pictures of a run: curves and heat maps."""

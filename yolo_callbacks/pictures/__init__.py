"""Plots of a run: curves and heat maps."""

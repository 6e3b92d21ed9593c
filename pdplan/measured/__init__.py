"""Measured serving runs: read them, predict them, say how far off the prediction is."""

"""Structural pruning: which coupled channels go, and what the layers that stay make of it."""

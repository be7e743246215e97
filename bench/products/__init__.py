"""Layers as matrix products, which is what sparse libraries offer: what the paths share."""

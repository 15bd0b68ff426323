"""The demo world: a small real data set, a small real model and an exact judge."""

TRAINING_ITEMS = 384
"""How many a method learns from unless asked: enough for the effect, and soon done anywhere."""

"""The demo world: a small real data set, a small real model and an exact judge."""

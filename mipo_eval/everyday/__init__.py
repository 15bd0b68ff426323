"""Everyday preferences: wishes of users of real models that a rule can check."""

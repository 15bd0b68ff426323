"""Everyday preferences: what users of real models wish for, where a rule can tell if they got it."""

"""Entrants of any kind, judged against each other on the same items.

entrants      checkpoints, served models, stored runs, response files, the references
head_to_head  judge every pair, and what the verdicts come to
examples      where two entrants differ most, and what was said there
"""

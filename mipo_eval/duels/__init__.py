"""Duels: entrants of any kind, judged against each other on the same items.

entrants    checkpoints, served models, stored runs, response files, the references
files       responses that were made elsewhere
duel        judge every pair, and what the verdicts come to
apart       where two entrants differ most, and what was said there
"""

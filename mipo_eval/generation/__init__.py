"""Generation: an evaluated model's responses to items, through lm-eval, in resumable chunks."""

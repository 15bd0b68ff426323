"""Training: preference pairs, losses and one recipe per method of the paper."""

if __name__ != "mipo_eval.training":  # a second copy of every class would not be equal to the first
    raise ImportError("this folder is mipo_eval.training: import that, not a bare `training`")

"""Tasks: lm-eval YAML files, their hooks, prompts, and the reading of item files."""

if __name__ != "mipo_eval.tasks":  # a second copy of every class would not be equal to the first
    raise ImportError("this folder is mipo_eval.tasks: import that, not a bare `tasks`")

from mipo_eval.tasks.answers import extract_choice, extract_number

__all__ = ["extract_choice", "extract_number"]

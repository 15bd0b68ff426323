"""A budget for thinking, kept while a checkpoint writes: what is over it is not written at all.

Once a row has thought for so many tokens, the mark that closes its thinking is the only thing it
can go on with; what follows is the model's own answer to as much as it has thought.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mipo_eval.models.thinking import closing_mark, decoded, may_open

if TYPE_CHECKING:
    import torch

_LONGEST_MARK = 16
"""Tokens; whatever the tokenizer, a mark has fewer."""


@dataclass(slots=True)
class _Row:
    """How far one row of a batch is."""

    prompt: str
    """The end of it."""
    closing: str | None = None
    """The mark that closes the thinking the row is in."""
    thought: int = 0
    """Tokens since the thinking was seen to begin."""
    over: bool = False
    """Whether it does not think, or no more."""
    forced: list[int] = field(default_factory=list)
    """What it must go on with, last token first."""


def budgets(
    tokenizer: Any, budget: int | None, prompts: "torch.Tensor"
) -> "list[ThinkingBudget] | None":
    """Return what keeps a budget while a batch is written, for transformers; None without one.

    Args:
        tokenizer: of the checkpoint.
        budget: tokens of thinking at most.
        prompts: (rows, tokens), padded in front.
    """
    if budget is None:
        return None
    ends = tokenizer.batch_decode(prompts[:, -_LONGEST_MARK:], skip_special_tokens=False)
    from transformers import LogitsProcessorList

    kept = [ThinkingBudget(tokenizer, budget, ends, prompts.shape[1])]
    found: list[ThinkingBudget] = LogitsProcessorList(kept)
    return found


class ThinkingBudget:
    """Ends the thinking of each row of a batch after a number of tokens.

    Args:
        tokenizer: of the checkpoint.
        budget: tokens of thinking.
        prompts: what each row goes on from; their ends are enough.
        start: where in the rows the answers begin.
    """

    def __init__(self, tokenizer: Any, budget: int, prompts: Sequence[str], start: int) -> None:
        self._tokenizer, self._budget, self._start = tokenizer, budget, start
        self._rows = [_Row(prompt) for prompt in prompts]

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Return (rows, vocabulary) scores: as they were, or only a forced token's."""
        for place, row in enumerate(self._rows):
            if not row.over and not row.forced:
                self._look(row, input_ids[place, self._start :].tolist())
            if row.forced:
                token = row.forced.pop()
                scores[place] = -math.inf
                scores[place, token] = 0.0
                row.over = not row.forced
        return scores

    def _look(self, row: _Row, written: list[int]) -> None:
        """Find out whether a row thinks, and whether it has thought enough."""
        if row.closing is None:
            text = decoded(self._tokenizer, written[: 2 * _LONGEST_MARK])
            row.closing = closing_mark(row.prompt, text)
            row.over = row.closing is None and not may_open(text)
        else:
            row.thought += 1
            row.over = row.closing in decoded(self._tokenizer, written[-_LONGEST_MARK:])
        if row.closing is not None and not row.over and row.thought >= self._budget:
            tokens = self._tokenizer(f"\n{row.closing}\n\n", add_special_tokens=False)["input_ids"]
            row.forced = tokens[::-1]

"""Log-probabilities of responses under their own and other users' contexts.

The scoring model is a local transformers checkpoint, by default the reference model. Every text is
tokenised once; sequences of similar length share a batch; only the logits of response tokens are
computed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple

from mipo_eval.checkpoints import find_checkpoint, loading
from mipo_eval.errors import ChatTemplateError, ConfigError, DataError
from mipo_eval.keys import item_rng
from mipo_eval.models.base import Message
from mipo_eval.models.chat import prompt_ids, with_chat_form
from mipo_eval.models.weights import load_weights
from mipo_eval.progress import Told
from mipo_eval.records import ContextLikelihoods, Item
from mipo_eval.tasks.prompt import USUAL, Prompting, as_dicts, conversation, turns_to
from mipo_eval.tasks.wordings import Wording
from mipo_eval.threads import fit_threads

Ids = Sequence[int]
BATCH_TOKENS = 8_192
"""Tokens of one batch, padding included; halved whenever the device runs out of memory."""
_CHUNK = 64
"""Responses whose sequences are sorted by length together."""


class TokenPair(NamedTuple):
    """A response and what it is conditioned on, as token ids."""

    prompt: Ids
    response: Ids


def draw_contexts(items: Sequence[Item], k: int, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """Yield K contexts per item: its own, then K - 1 different ones of other items.

    Fewer where the suite has fewer; an item without a context yields an empty tuple. A draw depends
    on nothing but the seed, the item and the set of contexts.

    Raises:
        DataError: fewer than two different contexts.
        ConfigError: k is below two.
    """
    if k < 2:
        raise ConfigError(f"{k} contexts: retrieval needs at least 2, the own and another")
    pool = sorted({item.context for item in items if item.context.strip()})
    if len(pool) < 2:
        raise DataError(
            f"{len(pool)} different contexts in {len(items)} items: nothing to tell apart; "
            "context lift needs a suite with several users"
        )
    for item in items:
        if not item.context.strip():
            yield ()
            continue
        others = [context for context in pool if context != item.context]
        drawn = item_rng(seed, "contexts", item.key).sample(others, min(k, len(pool)) - 1)
        yield (item.context, *drawn)


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """A causal language model that gives log-probabilities."""

    name: str
    model: Any
    tokenizer: Any

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        dtype: Literal["auto", "float32", "float64", "bfloat16"] = "auto",
        device: str | None = None,
    ) -> "ScoringModel":
        """Load a checkpoint or adapter, by folder or hub id, on a device as `load_weights` has it.

        Raises:
            ModelError: it cannot be loaded.
        """
        import torch
        from transformers import AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        found = find_checkpoint(checkpoint)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        with loading(f"the scoring model {checkpoint}"):
            tokenizer = with_chat_form(AutoTokenizer.from_pretrained(found.tokenizer))
            model = load_weights(found, dtype, place)
        fit_threads(model, rows=BATCH_TOKENS)
        return cls(checkpoint, model, tokenizer)

    @property
    def max_length(self) -> int | None:
        """Longest sequence the model was made for, in tokens; None when it does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def prompt_ids(self, asked: str | tuple[Message, ...]) -> list[int]:
        """Return the token ids up to where the model's answer starts.

        `asked` is a conversation, or the text of its only turn, a user's.

        Raises:
            ChatTemplateError: the chat template refuses it.
        """
        messages = turns_to(asked) if isinstance(asked, str) else asked
        if self.tokenizer.chat_template:
            return prompt_ids(self.tokenizer, as_dicts(messages))
        text = "\n\n".join(message.content for message in messages)
        return list(self.tokenizer(text)["input_ids"])

    def response_ids(self, text: str) -> list[int]:
        """Return the token ids of a response, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def logprobs(
        self,
        pairs: Sequence[TokenPair],
        *,
        batch_tokens: int = BATCH_TOKENS,
        told: Told = lambda _: None,
    ) -> list[float]:
        """Return log p(response | prompt) in nats, summed over the response's tokens.

        No prompt or response is empty. A batch has `batch_tokens` at most, padding included; one
        sequence always fits. `told` hears how many more were read.
        """
        order = sorted(
            range(len(pairs)), key=lambda i: -(len(pairs[i].prompt) + len(pairs[i].response))
        )
        sums: dict[int, float] = {}
        while order:
            longest = len(pairs[order[0]].prompt) + len(pairs[order[0]].response)
            size = max(1, batch_tokens // longest)
            batch, order = order[:size], order[size:]
            try:
                sums.update(zip(batch, self._batch([pairs[i] for i in batch]), strict=True))
                told(len(batch))
            except RuntimeError as error:
                if "out of memory" not in str(error).lower() or len(batch) == 1:
                    raise
                order, batch_tokens = batch + order, max(longest, batch_tokens // 2)
        return [sums[index] for index in range(len(pairs))]

    def _batch(self, pairs: Sequence[TokenPair]) -> list[float]:
        import torch

        device = self.model.device
        rows = [torch.tensor([*pair.prompt, *pair.response]) for pair in pairs]
        # Padding behind the text: causal attention never sees it, positions stay as they are.
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        first = min(len(pair.prompt) for pair in pairs) - 1
        with torch.inference_mode():
            logits = self.model(ids, logits_to_keep=ids.shape[1] - first, use_cache=False).logits
            wide = logits if logits.dtype == torch.float64 else logits.float()
            # (batch, kept - 1): position t predicts token t + 1.
            chosen = wide[:, :-1].gather(2, ids[:, first + 1 :, None]).squeeze(2)
            tokens = (chosen - wide[:, :-1].logsumexp(dim=2)).double().cpu()
        ends = [len(pair.prompt) + len(pair.response) for pair in pairs]
        return [
            float(tokens[row, len(pair.prompt) - 1 - first : end - 1 - first].sum())
            for row, (pair, end) in enumerate(zip(pairs, ends, strict=True))
        ]


def score_contexts(
    model: ScoringModel,
    items: Sequence[Item],
    responses: Sequence[str | None],
    *,
    told: tuple[str, Wording] = ("", USUAL),
    k: int = 8,
    seed: int = 0,
) -> Iterator[ContextLikelihoods | str]:
    """Yield, per item, its response's likelihoods without and under K contexts, or why not.

    The items are of one suite, the responses one per item, and None where there is none; `told` is
    the system prompt and the wording they were drawn under; `k` and `seed` are of `draw_contexts`.

    Raises:
        DataError: the suite has fewer than two contexts, or the lengths differ.
    """
    if len(items) != len(responses):
        raise DataError(f"{len(items)} items but {len(responses)} responses; give one per item")
    ids = lru_cache(maxsize=4_096)(model.prompt_ids)

    def asked(item: Item, prompting: Prompting) -> list[int]:
        return ids(conversation(item, prompting, *told))

    entries = zip(items, responses, draw_contexts(items, k, seed), strict=True)
    while chunk := list(islice(entries, _CHUNK)):
        prepared = [
            _pairs(item, response, contexts, model, asked) for item, response, contexts in chunk
        ]
        found = [pair for pairs in prepared if not isinstance(pairs, str) for pair in pairs]
        sums = iter(model.logprobs(found))
        for pairs in prepared:
            if isinstance(pairs, str):
                yield pairs
                continue
            without, *within = islice(sums, len(pairs))
            yield ContextLikelihoods(
                without_context=without,
                with_contexts=tuple(within),
                tokens=len(pairs[0].response),
            )


def _pairs(
    item: Item,
    response: str | None,
    contexts: Sequence[str],
    model: ScoringModel,
    asked: Callable[[Item, Prompting], list[int]],
) -> list[TokenPair] | str:
    """Return what is to be scored, without a context first, or why nothing can be."""
    response_ids = model.response_ids(response or "")
    if response is None or not response_ids:
        return "no response" if response is None else "empty response"
    if not contexts:
        return "item without context"
    within = [item.model_copy(update={"context": context}) for context in contexts]
    try:
        prompts = [asked(item, "default"), *(asked(one, "personalized") for one in within)]
    except ChatTemplateError as error:
        return str(error)
    pairs = [TokenPair(prompt, response_ids) for prompt in prompts]
    longest = max(len(pair.prompt) + len(pair.response) for pair in pairs)
    if model.max_length is not None and longest > model.max_length:
        return f"longer than the scoring model's {model.max_length} tokens"
    return pairs

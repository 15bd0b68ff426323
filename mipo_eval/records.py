"""The facts that cross module borders, one frozen record each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.signature import Signature

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Rubric(BaseModel):
    """How one preference is to be rated: a criterion and, per rating, what it looks like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    criterion: Text
    scores: dict[int, Text] = Field(default_factory=dict)
    """Rating (1-5) to its description; empty when only the criterion is given."""


Role = Literal["system", "user", "assistant"]


class PastTurn(BaseModel):
    """One turn of a conversation, before the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: Text


def _absent(value: object) -> bool:
    """Whether a field is as in items that know nothing of it, whose keys must stay theirs."""
    return not value


class Item(BaseModel):
    """One line of a personalization suite: what is asked, by whom, and what would please them.

    Example:
        {"item_id": "coffee-0-u3", "prompt": "How do I brew coffee?", "context": "I am nine.",
         "preferences": ["Use words a child knows."], "rubric": null, "reference": "Ask a ...",
         "user_id": "u3", "group_id": "coffee-0", "meta": {}}

    A conversation may also be given as a whole, in `messages` without a `prompt`: its last user
    turn is the prompt, and an assistant turn behind that is the `prefill`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Text
    prompt: Text
    context: str = ""
    """What is known of the user, given to the model under personalized prompting."""
    preferences: tuple[Text, ...] = ()
    """What the judge rates, one rating each; empty items can be generated but not judged."""
    rubric: tuple[Text | Rubric, ...] | None = None
    """One entry per preference, or null: the preference itself is the criterion."""
    reference: str | None = None
    """The response the paper compares with; null: no win rate for this item."""
    user_id: str | None = None
    group_id: str | None = None
    """Items sharing a prompt; the unit of resampling. Null: the item is its own group."""
    meta: dict[str, Any] = Field(default_factory=dict)
    messages: tuple[PastTurn, ...] = Field(default=(), exclude_if=_absent)
    """The turns before the prompt, oldest first; a first one may be a system prompt."""
    prefill: str = Field(default="", exclude_if=_absent)
    """How the response begins: the model continues it, and it is part of the response."""

    @model_validator(mode="before")
    @classmethod
    def _taken_apart(cls, raw: Any) -> Any:
        turns = raw.get("messages") if isinstance(raw, dict) else None
        if not isinstance(turns, list | tuple) or "prompt" in raw or "prefill" in raw:
            return raw
        before, taken = list(turns), dict(raw)
        for role, name in (("assistant", "prefill"), ("user", "prompt")):
            if before and isinstance(before[-1], dict) and before[-1].get("role") == role:
                taken[name] = before.pop().get("content")
        if "prompt" not in taken:
            raise ValueError("messages without a prompt must end with a user's turn")
        return taken | {"messages": before}

    @field_validator("messages")
    @classmethod
    def _system_comes_first(cls, messages: tuple[PastTurn, ...]) -> tuple[PastTurn, ...]:
        if any(turn.role == "system" for turn in messages[1:]):
            raise ValueError("a system turn stands first or nowhere")
        return messages

    @field_validator("prefill")
    @classmethod
    def _says_something(cls, prefill: str) -> str:
        if prefill and not prefill.strip():
            raise ValueError("is blank; give it a text or leave it out")
        return prefill

    @field_validator("rubric")
    @classmethod
    def _one_rubric_per_preference(cls, rubric: Any, info: Any) -> Any:
        preferences = info.data.get("preferences", ())
        if rubric is not None and len(rubric) != len(preferences):
            raise ValueError(f"has {len(rubric)} entries for {len(preferences)} preferences")
        return rubric

    @cached_property
    def key(self) -> str:
        """Content key: two items with the same key are the same item."""
        return digest(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other fields, whose key is its own: pydantic copies cached ones."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("key", None)
        return copied

    @property
    def transcript(self) -> str:
        """What was asked as people read it: the prompt, behind the turns before it if any."""
        if not self.messages:
            return self.prompt
        turns = [*((turn.role, turn.content) for turn in self.messages), ("user", self.prompt)]
        return "\n\n".join(f"{role.capitalize()}: {content}" for role, content in turns)

    @property
    def group(self) -> str:
        """The unit of resampling: the prompt's group, or the item itself."""
        return self.group_id or self.item_id


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
_WANTED = {
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "int_parsing": "a whole number",
}


def explain(error: ValidationError) -> str:
    """Return pydantic's first problem in one line: the field, what is wrong, what to do."""
    problem = error.errors(include_url=False)[0]
    # A union adds the name of the member it tried ("constrained-str", "Rubric"): noise to a reader.
    path = [str(part) for part in problem["loc"] if isinstance(part, int) or str(part).islower()]
    field = ".".join(part for part in path if "-" not in part) or "the line"
    kind, value = problem["type"], problem["input"]
    if kind == "missing":
        return f"field {field}: is missing; add it"
    if kind == "extra_forbidden":
        known = ", ".join(Item.model_fields)
        return f"field {field}: is not known (known: {known}); put other facts under meta"
    if kind == "string_too_short":
        return f"field {field}: is blank; give it a text or leave the entry out"
    if kind in _WANTED:
        found = _KINDS.get(type(value), f"the number {value}")
        return f"field {field}: must be {_WANTED[kind]}, not {found}"
    message = " ".join(problem["msg"].removeprefix("Value error, ").split())
    return f"field {field}: {message[:1].lower()}{message[1:]}"


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a model answered to one item, or why there is no answer."""

    item_key: str
    text: str | None
    """None when there is no response; `reason` then says why."""
    reason: str | None = None
    final: bool = False
    """True when asking again would fail again, as with a prompt that does not fit the model."""
    finish_reason: FinishReason | None = None
    """"length" marks a truncated response; None when the model type does not tell."""
    prompt_hash: str
    """Digest of the exact text (or messages) the model was given."""
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    """Without those of the thinking; None also where nobody tells the two apart."""
    thinking: str | None = None
    """What the model thought before it answered; no part of the text."""
    thinking_tokens: int | None = None
    choice_logprobs: tuple[float, ...] | None = None
    """(choices,) log p in nats, when the item was asked by likelihood; `text` is the likeliest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextLikelihoods:
    """Log-probabilities of one response, in nats, summed over its tokens."""

    without_context: float
    """log p(y|x)"""
    with_contexts: tuple[float, ...]
    """(K,) log p(y|x,c_k); the response's own context comes first, the others are other users'."""
    tokens: int
    """Length of the response."""

    def __post_init__(self) -> None:
        values = (self.without_context, *self.with_contexts)
        if not self.with_contexts or any(math.isnan(value) for value in values):
            raise DataError(f"log-probabilities {values} hold NaN or no context")
        if self.tokens < 1:
            raise DataError("a response without tokens has no likelihood under a context")


def text_key(text: str) -> str:
    """Return the content key of a response text, used by verdicts to name what was judged."""
    return digest(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One judge's rating of one response on one preference of its item."""

    judge: str
    """Key of the judge: backend, protocol, prompt, parser."""
    item_key: str
    text_key: str
    aspect: int
    """Index into the item's preferences."""
    rating: int | None
    """1-5, or None when there is no rating; `reason` then says why."""
    reason: str | None
    call_key: str
    """The ledger row this rating was read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A generation over the items of a suite, as asked for on the command line."""

    run_id: str
    model: str
    """As the user named it."""
    suite: str
    prompting: str
    """"personalized" or "default"; empty where items have no user."""
    seed: int
    list_key: str
    n_items: int
    generation_key: str
    environment: Mapping[str, Any]
    """Versions, platform and command of the first time this run was asked for."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A number that can be compared: over how many items, how sure, and made how."""

    metric: str
    value: float | None
    """Rates are 0-100, Self-BLEU 0-1, ratings 1-5, entropies and lifts in nats.

    None when not one item could be scored: no value is not a value of zero."""
    n: int | None
    """Items the value is over; 0 exactly when there is no value, None where another tool that made
    it does not say over how many."""
    unscored_reasons: Mapping[str, int] = field(default_factory=dict)
    """Items left out, counted by reason."""
    ci95: tuple[float, float] | None = None
    """Bootstrap clustered by prompt group, and by user where users come back; exact for a rate
    that is the same in every group. None with fewer than two groups."""
    signature: Signature
    """Every choice that changes the value, e.g. "ties:win|judge:checker|...": see signature.py."""
    task: str = ""
    outcomes_key: str | None = None
    """Digest of the outcomes it was made from: it holds as long as they are still those."""

    @property
    def judge(self) -> str | None:
        """Name of the judge, or of another tool's judge; None where nobody judged."""
        return self.signature.parts.get("judge")

    @property
    def judge_key(self) -> str | None:
        """First digits of the judge's key in the store."""
        return self.signature.parts.get("judge_key")

    @property
    def control(self) -> str | None:
        """Whose number it is, where a control entrant stood in the model's place."""
        return self.signature.parts.get("control")

    @property
    def is_imported(self) -> bool:
        """Whether another tool made it."""
        return "source" in self.signature.parts

    @property
    def name(self) -> str:
        """The metric as one word, also of a control: no reader must take it for the model's."""
        return f"control_{self.control}_{self.metric}" if self.control else self.metric

    @property
    def unscored(self) -> int:
        """How many items have no value."""
        return sum(self.unscored_reasons.values())

    def to_json(self) -> dict[str, Any]:
        """Return the score as the command line's `--json` shows it."""
        return {
            "task": self.task,
            "metric": self.name,
            "value": self.value,
            "n": self.n,
            "unscored": self.unscored,
            "unscored_reasons": dict(self.unscored_reasons),
            "ci95": list(self.ci95) if self.ci95 else None,
            "signature": self.signature,
        }


Values = Sequence[float | None]
"""One value per item; None where there is none."""

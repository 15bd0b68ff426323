"""What asking a judge takes: tokens, money and minutes, each with where the number comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.judges import Judge
from mipo_eval.keys import canonical_json
from mipo_eval.models.base import Limits, Request
from mipo_eval.models.prices import FREE, Metered, load_prices
from mipo_eval.models.spec import read_name
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, verdicts

_WINDOW = 256
_SAMPLE = 200
_CHARACTERS_A_TOKEN = 4.0
"""Of English text, for want of a tokenizer."""
_TOKENS_A_MESSAGE = 8
"""For the roles and marks of a chat template."""
_BY_RULE = {"checker", "scripted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number and where it comes from; None with a reason where it cannot be known."""

    value: float | None
    source: str


class Measured(NamedTuple):
    """What calls of this judge took; None where no call says."""

    n: int
    tokens_a_character: float | None
    completion: float | None
    seconds: float | None


def measure(store: Store, judge: Judge) -> Measured:
    """Return what stored calls of this judge took."""
    of_judge = sa.select(verdicts.c.call_key).where(verdicts.c.judge_key == judge.key)
    query = (
        sa.select(
            calls.c.request, calls.c.prompt_tokens, calls.c.completion_tokens, calls.c.seconds
        )
        .where(calls.c.status == "ok", calls.c.call_key.in_(of_judge))
        .limit(_SAMPLE)
    )
    with store.read() as connection:
        rows = connection.execute(query).fetchall()
    prompts = [(len(row.request), row.prompt_tokens) for row in rows if row.prompt_tokens]
    characters = sum(size for size, _ in prompts)
    return Measured(
        n=len(rows),
        tokens_a_character=sum(n for _, n in prompts) / characters if characters else None,
        completion=mean([row.completion_tokens for row in rows]),
        seconds=mean([row.seconds for row in rows]),
    )


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def tokens(
    judge: Judge, asked: Sequence[Request], measured: Measured, tokenizer: str | None
) -> tuple[Amount, Amount]:
    """Return prompt and reply tokens of the requests, from the best source there is.

    Raises:
        ConfigError: the named tokenizer is not there.
    """
    if _kind(judge) in _BY_RULE:
        return Amount(value=0, source="a rule reads no tokens"), Amount(value=0, source="a rule")
    told = measured.completion
    if told is None:
        most = judge.sampling.max_tokens * len(asked)
        completion = Amount(value=most, source=f"at most {judge.sampling.max_tokens} a reply")
    else:
        completion = Amount(value=told * len(asked), source=f"mean of {measured.n} stored calls")
    file = _tokenizer_file(judge, tokenizer)
    if file is not None:
        return Amount(value=_count(file, asked), source=f"tokenizer {file.parent.name}"), completion
    if measured.tokens_a_character is not None:
        size = sum(len(canonical_json(request.to_json())) for request in asked)
        source = f"estimate from {measured.n} stored calls of this judge"
        return Amount(value=size * measured.tokens_a_character, source=source), completion
    size = sum(len(turn.content) for request in asked for turn in request.messages)
    source = f"rough estimate: {_CHARACTERS_A_TOKEN:g} characters a token; see --tokenizer"
    overhead = _TOKENS_A_MESSAGE * len(asked)
    return Amount(value=size / _CHARACTERS_A_TOKEN + overhead, source=source), completion


def _kind(judge: Judge) -> str:
    return judge.backend.identity["backend"]


def _tokenizer_file(judge: Judge, named: str | None) -> Path | None:
    """Return the judge's tokenizer: the one named, or that of a checkpoint on this machine.

    Raises:
        ConfigError: the named one is not there.
    """
    own = read_name(judge.spec)
    target = named or (own.name if own.kind else "")
    path = Path(target)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.name.endswith(".json") and file.is_file():
        return file.absolute()
    if named:
        raise ConfigError(f"--tokenizer {named}: there is no tokenizer.json")
    return None


def _count(file: Path, asked: Sequence[Request]) -> float:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise ConfigError("counting tokens needs tokenizers: pip install 'mipo-eval[hf]'") from None
    tokenizer = Tokenizer.from_file(str(file))
    total = 0
    source = iter(asked)
    while window := list(islice(source, _WINDOW)):
        texts = [turn.content for request in window for turn in request.messages]
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        total += sum(len(text.ids) + _TOKENS_A_MESSAGE for text in encoded)
    return total


def cost(judge: Judge, prompt: Amount, completion: Amount) -> Amount:
    """Return the dollars for that many tokens by the dated price table."""
    if not isinstance(judge.backend, Metered) or judge.backend.price == FREE:
        return Amount(value=0, source="no charge: a rule, or a server of your own")
    prices, price = load_prices(), judge.backend.price
    if price is None:
        model = judge.backend.identity["model"]
        why = f"no price of {model} in the table of {prices.as_of}; add it with MIPO_EVAL_PRICES"
        return Amount(value=None, source=why)
    dollars = price.cost(round(prompt.value or 0), round(completion.value or 0))
    return Amount(value=dollars, source=f"prices of {prices.as_of}, one by one, not as a batch")


def minutes(n_calls: int, measured: Measured) -> Amount:
    """Return how long the calls take at the usual number in flight."""
    if n_calls == 0:
        return Amount(value=0, source="nothing to ask")
    if measured.seconds is None:
        return Amount(value=None, source="no stored call of this judge tells how long it takes")
    at_once = Limits().concurrency
    source = f"{measured.seconds:.2f} s a call ({measured.n} stored), {at_once} at once"
    rounds = max(n_calls / at_once, 1.0)
    return Amount(value=rounds * measured.seconds / 60, source=source)

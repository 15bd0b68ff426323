"""What tokens cost, by a table that is kept (genai-prices) and the user's; what may be spent."""

import datetime
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from mipo_eval import settings
from mipo_eval.models.base import Failure, Purse, Reply, Request

_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|\d{3}|latest|preview(?:-[\d-]+)?)$")
"""What providers append to a model's name for one of its versions."""


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: NonNegativeFloat
    output: NonNegativeFloat
    batch: NonNegativeFloat = 0.5
    """What a batch costs, as a share of the same requests sent one by one."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the dollars for that many tokens."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6

    def most(self, request: Request) -> float:
        """Return the dollars a request can cost at most.

        No tokenizer in use makes more tokens than there are bytes; eight a message are for roles.
        """
        prompt = sum(8 + len(turn.content.encode("utf-8", "replace")) for turn in request.messages)
        return self.cost(prompt, request.sampling.max_tokens)

    def in_batches(self) -> "Price":
        """Return the price of the same model through the batch service."""
        return Price(input=self.input * self.batch, output=self.output * self.batch, batch=1.0)

    def of(self, reply: Reply, request: Request) -> float:
        """Return the dollars a reply cost; the most it can have cost where usage is missing."""
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return self.most(request)
        return self.cost(reply.prompt_tokens, reply.completion_tokens)


FREE = Price(input=0, output=0)
"""A server of one's own."""


class PriceTable(BaseModel):
    """Prices by model name, as the user's own file has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime.date
    models: dict[str, Price]

    def find(self, model: str) -> Price | None:
        """Return the price of a model, or of the model it is a dated version of, or None."""
        name = model if model in self.models else model.rsplit("/", 1)[-1]
        while name not in self.models:
            shorter = _DATED.sub("", name)
            if shorter == name:
                return None
            name = shorter
        return self.models[name]


HOW_TO_PRICE = (
    "write `as_of: DATE` and `models: {NAME: {input: DOLLARS, output: DOLLARS}}`, per million "
    f"tokens, into a YAML file and name that file in {settings.PRICES}"
)
"""Told wherever a price is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What models cost: by the user's own table, else by the one that is kept."""

    own: PriceTable | None

    @property
    def as_of(self) -> str:
        """Which tables these are."""
        kept = f"genai-prices {version('genai-prices')}"
        return f"{kept} and your own of {self.own.as_of}" if self.own else kept

    def find(self, model: str, *, url: str = "", provider: str | None = None) -> Price | None:
        """Return the standard price of a model today, or None.

        Args:
            model: what the server calls it.
            url: of the server. A provider of models of several makers has prices of its own.
            provider: its name, where that is known instead.
        """
        found = self.own.find(model) if self.own else None
        return found or _kept_price(model, url, provider)


def _kept_price(model: str, url: str, provider: str | None) -> Price | None:
    # Half a second, so only where somebody is to be paid.
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices

    table = get_snapshot()
    by_url = next((one.id for one in table.providers if re.match(one.api_pattern, url)), None)
    now = datetime.datetime.now(datetime.UTC)
    for name in dict.fromkeys((model, model.rsplit("/", 1)[-1])):
        with suppress(LookupError):
            _, found = table.find_provider_model(name, None, provider or by_url, None)
            listed = found.get_prices(now)
            both = [
                float(price.base if isinstance(price, TieredPrices) else price)
                for price in (listed.input_mtok, listed.output_mtok)
                if price is not None
            ]
            if len(both) == 2:
                return Price(input=both[0], output=both[1])
    return None


def price_of(
    model: str, *, private: bool, url: str = "", provider: str | None = None
) -> Price | None:
    """Return what a model costs; None where no table knows. Raises as `load_prices` does.

    A server on this machine or network is free, unless the user's own table has its model: then it
    passes requests on to somebody who charges.
    """
    prices = load_prices()
    if not private:
        return prices.find(model, url=url, provider=provider)
    return (prices.own and prices.own.find(model)) or FREE


def load_prices() -> Prices:
    """Return the prices, those of the user's file among them.

    Raises:
        ConfigError: the file named in MIPO_EVAL_PRICES cannot be read or is not a price table.
    """
    file = settings.prices_file()
    own = settings.read_yaml(file, f"the price table {file}", PriceTable) if file else None
    return Prices(own=own)


NOT_ASKED = "not asked: "
"""How the reason begins for which a request was never sent: what failed before."""


@dataclass(slots=True)
class Usage:
    """What was asked for and paid so far."""

    tries: int = 0
    replies: int = 0
    answered: int = 0
    """Requests that ended with a reply that can be used."""
    failures: int = 0
    """Requests that ended without one, among them those never sent."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    """Dollars; None where no price is known."""
    waiting: str = ""
    """What is waited for, where that takes long: how far a batch is."""
    complaints: Counter[str] = field(default_factory=Counter)
    """Why requests failed, in the server's own words."""

    def ended(self, outcome: Reply | Failure) -> None:
        """Note what came of a request in the end."""
        if isinstance(outcome, Reply):
            self.answered += 1
        else:
            self.failures += 1
            self.complaints[outcome.detail.removeprefix(NOT_ASKED)] += 1

    @property
    def complaint(self) -> str | None:
        """Why most of the requests failed that did, or None where none did."""
        return next((why for why, _ in self.complaints.most_common(1)), None)


@runtime_checkable
class Metered(Protocol):
    """A backend that asks a server, which may charge, and counts what it is asked."""

    price: Price | None
    """Of its model; None where no table has it."""

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        ...


def spending(backend: object) -> str:
    """Return, for a line of progress, what a backend has cost so far and what it waits for."""
    if not isinstance(backend, Metered):
        return ""
    usage = backend.usage
    cost = f"${usage.cost:.4f}" if usage.cost else ""
    return "  ".join(part for part in (cost, usage.waiting) if part)


class Budget:
    """What one backend asks for and pays; what is in flight counts with the most it can cost.

    Without a price no money is counted.
    """

    def __init__(self, price: Price | None, purse: Purse) -> None:
        self.price = price
        self.purse = purse
        self.usage = Usage(cost=None if price is None else 0.0)

    def reserve(self, request: Request) -> float | None:
        """Set aside the most `request` can cost and return it; None if that does not fit now."""
        if self.price is None or self.purse.limit is None:
            return 0.0
        most = self.price.most(request)
        return most if not most or self.purse.take(most) else None

    def count(self, request: Request, reply: Reply) -> float:
        """Add a reply to the usage and return what it cost."""
        self.usage.replies += 1
        self.usage.prompt_tokens += reply.prompt_tokens or 0
        self.usage.completion_tokens += reply.completion_tokens or 0
        cost = self.price.of(reply, request) if self.price else 0.0
        if self.usage.cost is not None:
            self.usage.cost += cost
        return cost

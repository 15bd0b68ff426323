"""The tables. Everything is keyed by content, so stores merge and repeated work is found.

items         one row per distinct item (prompt, context, preferences, reference, ...)
item_lists    the ordered items of a suite, by list key
generations   how responses are made: model, prompting, decoding, seed
responses     what a generation answered to an item, or why there is no answer
judges        who judges how: backend, protocol, prompt, parser
calls         the ledger: every request to a judge's backend with its raw reply or failure
verdicts      what a judge said of a text on one preference of an item, read from a call
choices       which of two texts a judge preferred for an item, in one order of presentation
grades        what a judge gave a text on a scale that is not ours, as imported
runs          a generation over an item list, as asked for on the command line
scores        the numbers of a run, each with n, unscored, interval and signature
trainings     what was trained: method, base model, recipe, and how it went
curves        what a training measured at its steps: loss, rewards, KL, tokens a second
validations   what a judge's quality on labelled pairs was found to be

Two more hold nothing that outlasts a run, and are not merged: which processes are at work
(`workers`), and which of them asks for what (`claims`).
"""

import math
import zlib
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

metadata = MetaData()
passing = MetaData()
"""Tables of what is under way."""
Key = String(32)
Name = String(255)
"""As long as the name of a file may be."""


class CompressedText(TypeDecorator[str]):
    """Long text that is written always and read seldom (whole requests), deflated."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Deflate on the way in."""
        return None if value is None else zlib.compress(value.encode("utf-8", "surrogatepass"), 3)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Inflate on the way out."""
        return None if value is None else zlib.decompress(value).decode("utf-8", "surrogatepass")


class LogProbs(TypeDecorator[list[float]]):
    """Log-probabilities; that of 0 is minus infinity, which JSON lacks: null stands for it."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Give log 0 back."""
        return value and [-math.inf if own is None else own for own in value]


def _table(name: str, *columns: Column[Any] | Index) -> Table:
    # Without rowid SQLite keeps each row inside its primary key's tree: half the space, one lookup.
    return Table(name, metadata, *columns, sqlite_with_rowid=False)


schema_info = _table(
    "schema_info",
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

items = _table(
    "items",
    Column("item_key", Key, primary_key=True),
    Column("item_id", Text, nullable=False),
    Column("group_id", Text),
    Column("user_id", Text),
    Column("n_preferences", Integer, nullable=False),
    Column("reference_key", Key),
    Column("body", Text, nullable=False),
)

item_lists = _table(
    "item_lists",
    Column("list_key", Key, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("task", Name, nullable=False),
    Column("item_key", Key, nullable=False),
)

_ABOUT = ("group_id", "user_id", "n_preferences", "reference_key")
LISTED = (item_lists.c.task, item_lists.c.item_key, *(items.c[name] for name in _ABOUT))
"""What statistics need to know of the items of a list."""

generations = _table(
    "generations",
    Column("generation_key", Key, primary_key=True),
    Column("spec", JSON, nullable=False),
)

responses = _table(
    "responses",
    Column("generation_key", Key, primary_key=True),
    Column("item_key", Key, primary_key=True),
    Column("text", Text),
    Column("text_key", Key),
    Column("reason", Text),
    Column("final", Boolean, nullable=False),
    Column("finish_reason", String(16)),
    Column("prompt_hash", Key, nullable=False),
    Column("prompt_tokens", Integer),
    Column("response_tokens", Integer),
    Column("choice_logprobs", LogProbs),
    Column("thinking", Text),
    Column("thinking_tokens", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

judges = _table(
    "judges",
    Column("judge_key", Key, primary_key=True),
    Column("name", Text, nullable=False),
    Column("spec", JSON, nullable=False),
)

calls = _table(
    "calls",
    Column("call_key", Key, primary_key=True),
    Column("backend", JSON, nullable=False),
    Column("request", CompressedText, nullable=False),
    Column("status", String(32), nullable=False),
    Column("detail", Text),
    Column("reply", Text),
    Column("model", Text),
    Column("finish_reason", String(32)),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("seconds", Float),
    Column("logprobs", JSON(none_as_null=True)),
    Column("thinking", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

verdicts = _table(
    "verdicts",
    Column("judge_key", Key, primary_key=True),
    Column("item_key", Key, primary_key=True),
    Column("text_key", Key, primary_key=True),
    Column("aspect", Integer, primary_key=True),
    Column("rating", Integer),
    Column("reason", Text),
    Column("call_key", Key, nullable=False),
)

choices = _table(
    "choices",
    Column("judge_key", Key, primary_key=True),
    Column("item_key", Key, primary_key=True),
    Column("text_key_a", Key, primary_key=True),
    Column("text_key_b", Key, primary_key=True),
    Column("shown_first", String(1), primary_key=True),
    Column("winner", String(3)),
    Column("preference", Float),
    Column("reason", Text),
    Column("call_key", Key),
)

grades = _table(
    "grades",
    Column("judge_key", Key, primary_key=True),
    Column("item_key", Key, primary_key=True),
    Column("text_key", Key, primary_key=True),
    Column("value", Float),
    Column("reason", Text),
    Column("call_key", Key),
)

likelihoods = _table(
    "likelihoods",
    Column("scorer_key", Key, primary_key=True),
    Column("item_key", Key, primary_key=True),
    Column("text_key", Key, primary_key=True),
    Column("without_context", Float, nullable=False),
    Column("with_contexts", JSON, nullable=False),
    Column("tokens", Integer, nullable=False),
)

runs = _table(
    "runs",
    Column("run_id", Key, primary_key=True),
    Column("model", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("prompting", String(32), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("list_key", Key, nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("generation_key", Key, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

scores = _table(
    "scores",
    Column("run_id", Key, primary_key=True),
    Column("task", Name, primary_key=True),
    Column("metric", Name, primary_key=True),
    Column("signature_key", Key, primary_key=True),
    Column("value", Float),
    Column("n", Integer),
    Column("unscored_reasons", JSON, nullable=False),
    Column("ci_low", Float),
    Column("ci_high", Float),
    Column("signature", Text, nullable=False),
    Column("parts", JSON, nullable=False),
    Column("outcomes_key", Key),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

trainings = _table(
    "trainings",
    Column("training_id", Key, primary_key=True),
    Column("method", Name, nullable=False),
    Column("model", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("checkpoint", Text),
    Column("recipe", JSON, nullable=False),
    Column("pair_report", JSON(none_as_null=True)),
    Column("environment", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("parent", Key),
)

curves = _table(
    "curves",
    Column("training_id", Key, primary_key=True),
    Column("metric", Name, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("value", Float, nullable=False),
)

validations = _table(
    "validations",
    Column("judge_key", Key, primary_key=True),
    Column("data", Name, primary_key=True),
    Column("data_key", Key, primary_key=True),
    Column("figures", JSON, nullable=False),
    Column("failings", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

workers = Table(
    "workers",
    passing,
    Column("worker", Key, primary_key=True),
    Column("until", Float, nullable=False),
    sqlite_with_rowid=False,
)

claims = Table(
    "claims",
    passing,
    Column("claim_key", Key, primary_key=True),
    Column("worker", Key, nullable=False),
    sqlite_with_rowid=False,
)

"""Preference pairs: what is drawn for each prompt, and what of it can be learned from.

For a prompt x of a user with context c, chosen ~ pi_ref(y|x,c). Rejected, by strategy (PAPER.md,
"Method"):

missing         pi_ref(y|x), the prompt without the context
random          pi_ref(y|x,c'), another user's context; without contexts, another prompt's response
reshuffle       another item's chosen response, used again
random-strings  random letters and digits as long as the chosen response

A plug-in's strategy is a function `strategy(item, items, n, rng)` that returns N items: those whose
responses are the negatives of `item`, as they are asked. `items` are all of the training set, in
one order whatever that of the file; `rng` is the item's own random.Random.

Everything here is pure. What a strategy wants is first planned, and asked of the model by
`data.py`; `build_pairs` then joins the texts to pairs and counts what cannot be used. A plan
depends on the seed, the item and the set of items, never on their order.
"""

import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.keys import item_rng
from mipo_eval.plugins import Plugin, plugin_of
from mipo_eval.records import Item, Response
from mipo_eval.training.recipes import NEGATIVES, PairSettings

Usable = tuple[str | None, str | None]
"""A text that can be learned from, or None and why there is none."""
_ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """What one item needs to become a pair."""

    item: Item
    """Asked as it is for the chosen response."""
    rejected: tuple[Item, ...]
    """The items whose responses are its negatives, as they are asked: with another context,
    without one, or another item. Each has an id of its own (`ID~missing-0`), and so a key and a
    draw of its own. Empty for random strings, which nobody has to be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """A prompt's chosen response with its negatives; N of them are N pairs of one prompt."""

    item: Item
    chosen: str
    rejected: tuple[str, ...]
    """One at least. Fewer than were asked for where some could not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePairs:
    """The pairs of a training set, and what was left out of it."""

    pairs: tuple[PreferencePair, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Items without a pair, by reason."""
    dropped_negatives: Mapping[str, int] = field(default_factory=dict)
    """Negatives of items that have others, by reason."""


def build_pairs(
    items: Sequence[Item],
    responses: Mapping[str, Response],
    settings: PairSettings,
    *,
    seed: int = 0,
) -> PreferencePairs:
    """Join the responses to planned draws to preference pairs.

    A pair whose two responses are equal, or one of whose responses is absent, empty or cut at the
    length limit, teaches nothing or something wrong: it is dropped and counted.

    The items are of one data set; responses are the reference model's, by the key of the item as
    it was asked (`plan_draws` says which are wanted, from the same settings and seed).

    Raises:
        DataError: the strategy has too little to draw from, or not one pair can be used.
        ConfigError: the strategy does not fit prompts without contexts.
    """
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    dropped_negatives: Counter[str] = Counter()
    plans = list(plan_draws(items, settings, seed=seed))
    if len(plans) < len(items):
        dropped["no context"] = len(items) - len(plans)
    for plan in plans:
        chosen, reason = usable(responses.get(plan.item.key))
        if chosen is None:
            dropped[f"chosen: {reason}"] += 1
            continue
        found = _negatives(plan, chosen, responses, settings, seed)
        good = tuple(text for text, _ in found if text is not None)
        reasons = [why for _, why in found if why is not None]
        if good:
            pairs.append(PreferencePair(item=plan.item, chosen=chosen, rejected=good))
            dropped_negatives.update(reasons)
        else:
            dropped[reasons[0]] += 1
    if not pairs:
        reasons_seen = ", ".join(f"{n} x {why}" for why, n in dropped.most_common())
        raise DataError(
            f"none of {len(items)} items gives a preference pair ({reasons_seen}): check the "
            "model's responses, or raise sampling.max_tokens"
        )
    return PreferencePairs(pairs=tuple(pairs), dropped=dropped, dropped_negatives=dropped_negatives)


def _negatives(
    plan: PairPlan,
    chosen: str,
    responses: Mapping[str, Response],
    settings: PairSettings,
    seed: int,
) -> list[Usable]:
    if settings.negatives == "random-strings":
        texts = random_strings(chosen, settings.n_negatives, seed=seed, key=plan.item.key)
        return [(text, None) for text in texts]
    found: list[Usable] = []
    for asked in plan.rejected:
        text, reason = usable(responses.get(asked.key))
        if text == chosen:
            text, reason = None, "equal to the chosen response"
        found.append((text, f"rejected: {reason}" if reason else None))
    return found


def usable(response: Response | None) -> Usable:
    """Return the text of a response that can be learned from."""
    if response is None or response.text is None:
        return None, (response.reason if response else None) or "not generated"
    if not response.text.strip():
        return None, "empty"
    if response.finish_reason == "length":
        return None, "cut at the length limit"
    return response.text, None


def random_strings(like: str, n: int, *, seed: int, key: str) -> list[str]:
    """Return N texts of random letters and digits, as many characters long as a response."""
    rng = item_rng(seed, "random-strings", key)
    return ["".join(rng.choices(_ALPHANUMERIC, k=len(like))) for _ in range(n)]


def plan_draws(
    items: Sequence[Item], settings: PairSettings, *, seed: int = 0
) -> Iterator[PairPlan]:
    """Yield what each item needs, in the order of the items; others are drawn from these only.

    Where any item has a context, those without one are left out: there is nothing to tell them by.

    Raises:
        DataError: too few other contexts or prompts for that many negatives.
        ConfigError: the strategy does not fit prompts without contexts, or N is below 1.
    """
    kind, n = settings.negatives, settings.n_negatives
    if n < 1:
        raise ConfigError(f"pairs.n_negatives is {n}: it must be at least 1")
    with_context = any(_same(item.context) for item in items)
    if kind == "missing" and not with_context:
        raise ConfigError(
            "negatives 'missing' leave out the user's context, and these prompts have none: use "
            "random or reshuffle"
        )
    if kind == "random-strings":
        yield from (PairPlan(item=item, rejected=()) for item in items)
        return
    if own := plugin_of("negatives", kind, NEGATIVES, "pairs.negatives"):
        yield from _planned_by(own, items, n, seed)
        return
    others = _Others(items, "context" if with_context else "prompt")
    for item in items:
        if with_context and not _same(item.context):
            continue
        if kind == "missing":
            rejected = [_asked(item, f"missing-{number}", context="") for number in range(n)]
        else:
            rejected = others.draw(item, n, seed)
        if kind == "random" and with_context:
            rejected = [
                _asked(item, f"random-{number}", context=other.context)
                for number, other in enumerate(rejected)
            ]
        elif kind == "random":  # a fresh response each, not the one that is chosen for that prompt
            rejected = [_asked(other, f"for-{item.item_id}") for other in rejected]
        yield PairPlan(item=item, rejected=tuple(rejected))


def _planned_by(own: Plugin, items: Sequence[Item], n: int, seed: int) -> Iterator[PairPlan]:
    """Yield what each item needs by a plug-in's strategy.

    Raises:
        ConfigError: it failed, or returned something else than N items.
    """
    known = tuple(sorted(items, key=lambda item: item.key))
    for item in items:
        found = own(item, known, n, item_rng(seed, "negatives", item.key))
        if (
            not isinstance(found, Sequence)
            or len(found) != n
            or not all(isinstance(one, Item) for one in found)
        ):
            raise ConfigError(
                f"{own}: for {item.item_id} it returned {str(found)[:80]!r}, not a list of {n} "
                "items (records.Item)"
            )
        asked = (_asked(one, f"{own.name}-{place}") for place, one in enumerate(found))
        yield PairPlan(item=item, rejected=tuple(asked))


class _Others:
    """Draws other items, no two alike in what makes them other: the context, or the prompt."""

    def __init__(self, items: Sequence[Item], what: Literal["context", "prompt"]) -> None:
        self._what = what
        self._items: defaultdict[str, list[Item]] = defaultdict(list)
        self._of_user: defaultdict[str, set[str]] = defaultdict(set)
        for item in items:
            text = self._text(item)
            if not text:
                continue
            self._items[text].append(item)
            if item.user_id is not None:
                self._of_user[item.user_id].add(text)
        self._pool = sorted(self._items)
        for alike in self._items.values():
            alike.sort(key=lambda item: item.key)  # whatever the order they came in

    def draw(self, item: Item, n: int, seed: int) -> list[Item]:
        """Return N items of other users that differ from this one and from each other.

        Raises:
            DataError: there are fewer.
        """
        own = {self._text(item)} | self._of_user.get(item.user_id or "", set())
        if len(self._pool) - len(own) < n:
            raise DataError(
                f"{item.item_id}: {n} other {self._what}s are needed, but of {len(self._pool)} "
                f"different ones only {len(self._pool) - len(own)} belong to others: lower "
                "--n-negatives, or take --negatives missing"
            )
        # As many more are drawn as may have to be left out; the draw is the item's alone, so one
        # item more or less in another place of the list changes no other item's negatives.
        rng = item_rng(seed, "negatives", item.key)
        texts = [text for text in rng.sample(self._pool, n + len(own)) if text not in own][:n]
        return [rng.choice(self._items[text]) for text in texts]

    def _text(self, item: Item) -> str:
        return _same(item.context if self._what == "context" else item.transcript)


def _same(text: str) -> str:
    """Return what two texts that say the same have in common: case and spacing do not count."""
    return " ".join(text.split()).casefold()


def _asked(item: Item, mark: str, **changes: str) -> Item:
    """Return an item as it is asked for a negative, with an id, key and draw of its own."""
    return item.model_copy(update={"item_id": f"{item.item_id}~{mark}", **changes})


def with_other_contexts(items: Sequence[Item], *, contexts: int, seed: int) -> list[Item]:
    """Return the items, and more of them so that each prompt is asked under K contexts.

    Eqs. 6 and 7 need K responses to one prompt; in most data sets a user's prompt is nobody
    else's. What is missing is filled with contexts of other users, drawn by the seed and the
    prompt; such an item has the other user's preferences and no reference.

    Raises:
        DataError: the items have fewer than K different contexts.
    """
    owners = {" ".join(item.context.split()): item for item in items if item.context.strip()}
    if len(owners) < contexts:
        raise DataError(
            f"{len(items)} training items have only {len(owners)} different contexts, too few for "
            f"groups of {contexts}: lower settings.contexts, or use a suite with more users"
        )
    by_prompt: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.context.strip():
            by_prompt[item.transcript].append(item)
    found = list(items)
    for prompt, own in by_prompt.items():
        known = {" ".join(item.context.split()) for item in own}
        missing = contexts - len(known)
        if missing > 0:
            others = [owners[context] for context in sorted(owners.keys() - known)]
            drawn = item_rng(seed, "contexts", prompt).sample(others, missing)
            found += [_asked_by(min(own, key=lambda one: one.key), other) for other in drawn]
    return found


def _asked_by(item: Item, other: Item) -> Item:
    taken = {name: getattr(other, name) for name in ("context", "preferences", "rubric", "user_id")}
    name = f"{item.item_id}+{other.item_id}"
    return item.model_copy(update={**taken, "item_id": name, "reference": None, "meta": {}})

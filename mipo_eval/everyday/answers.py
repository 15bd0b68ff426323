"""Answers that follow some wishes and not others, put together from sentences by a rule's needs.

No model wrote them, and what they follow is known: labelled pairs for judges are made of them, and
tests of the rules. They say little that helps; they are for telling who follows wishes.
"""

import random
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

from mipo_eval.everyday.rules import rate
from mipo_eval.everyday.tables import CODES, FACTS_LEFT_OUT, facts, read_table
from mipo_eval.records import Item
from mipo_eval.verdict import SATISFIED

_ENOUGH = {"length:brief": 2, "length:two_sentences": 2, "length:detailed": 16}
"""Sentences by the length that is wished for; five else."""


@cache
def _texts() -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_table("answers")
    return found


def answer(item: Item, follow: Collection[str], rng: random.Random) -> str:
    """Return an answer that follows the wishes named, and breaks those of the item that are not.

    Args:
        item: of the suite, for its question, user and wishes.
        follow: names of wishes that go together.
        rng: draws the sentences.
    """
    broken = [name for name in item.meta["wishes"] if name not in follow]
    wished = next((name for name in follow if name in CODES), None)
    sentences = _sentences(item, follow, CODES.get(wished or "", "en"), wished, rng)
    sentences += [text for name in broken if (text := _texts()["breaking"].get(name))]
    if FACTS_LEFT_OUT in broken:
        sentences += [f"You said it yourself: {facts()[name].said}" for name in item.meta["facts"]]
    if {"length:brief", "length:two_sentences"} & set(broken):
        sentences += [text for text in _texts()["plain"][2:] if text not in sentences]
    ending = next((name for name in follow if name in _texts()["ending"]), None)
    if ending:
        sentences.append(_texts()["ending"][ending][CODES.get(wished or "", "en")])
    return _shaped(sentences, follow, broken, item.meta["name"])


def _sentences(
    item: Item, follow: Collection[str], code: str, wished: str | None, rng: random.Random
) -> list[str]:
    """Return the sentences before the ending: advice, and what wishes add to it."""
    added = [own[code] for name in sorted(follow) if (own := _texts()["added"].get(name))]
    first, *others = _texts()[wished.partition(":")[2] if wished else "plain"]
    wanted = min((_ENOUGH[name] for name in follow if name in _ENOUGH), default=5)
    ending = any(name in _texts()["ending"] for name in follow)
    number = max(0, wanted - 1 - ending - (len(added) if wanted < 5 else 0))
    advice = [first, *rng.sample(others, min(number, len(others)))]
    return [text.replace("{about}", item.meta["about"]) for text in advice] + list(
        dict.fromkeys(added)
    )


def _shaped(
    sentences: list[str], follow: Collection[str], broken: Collection[str], name: str
) -> str:
    """Return the sentences in the form that is wished for, or in another where that is broken."""
    if "frame:name" in follow:
        sentences[0] = f"{name}, {sentences[0][0].lower()}{sentences[0][1:]}"
    if "frame:direct" in broken:
        sentences.insert(0, "Thank you for this great question.")
    if "form:bold" in follow:
        first, second, *rest = sentences[0].split(" ")
        sentences[0] = " ".join([first, f"**{second.strip(',.')}**", *rest])
    if "wording:emoji" in follow:
        sentences[0] += " 🙂"
    text = _laid_out(sentences, follow, broken)
    if "wording:lower_case" in follow:
        text = text.lower()
    return text


def _laid_out(sentences: list[str], follow: Collection[str], broken: Collection[str]) -> str:
    if "form:numbered" in follow:
        body = [f"{number}. {one}" for number, one in enumerate(sentences, 1)]
    elif "form:bullets" in follow:
        body = [f"- {one}" for one in sentences]
    elif "form:table" in follow:
        first, *rows, last = sentences  # the opening opens, and the ending ends
        body = [first, "", "| part | advice |", "| --- | --- |"]
        body += [f"| {'abcdefghijklmnopqrstuvwxyz'[n]} | {one} |" for n, one in enumerate(rows)]
        body += ["", last]
    elif "form:paragraph" in broken:
        body = [f"* {one}" for one in sentences]
    else:
        body = [" ".join(sentences)]
    if "form:headings" in follow:
        half = len(sentences) // 2
        parts = (sentences[:half], sentences[half:])
        listed = {"form:numbered", "form:bullets", "form:table"} & set(follow)
        body = ["## First part", *(body if listed else parts[0]), "", "## Second part"]
        body += ["Go on like this to the end."] if listed else parts[1]
    return "\n".join(body)


class BetterAndWorse(NamedTuple):
    """Two answers to one item, one of which breaks one wish and follows the others."""

    better: str
    worse: str
    broken: str
    """Name of the wish."""


def contrast(item: Item, rng: random.Random) -> BetterAndWorse | None:
    """Return two answers to an item that differ in one wish; None where the rules see more.

    The rules have to agree: the better one satisfies all wishes, the worse one all but one.
    """
    names: list[str] = item.meta["wishes"]
    state = rng.getrandbits(64)
    better = answer(item, names, random.Random(state))
    best = ratings(item, better)
    if min(best) < SATISFIED:
        return None
    for place in rng.sample(range(len(names)), len(names)):
        follow = [name for name in names if name != names[place]]
        worse = answer(item, follow, random.Random(state))
        found = ratings(item, worse)
        missed = [n for n, rating in enumerate(found) if rating < SATISFIED]
        if missed == [place] and sum(found) < sum(best):
            return BetterAndWorse(better, worse, names[place])
    return None


def ratings(item: Item, text: str) -> list[int]:
    """Return how well a text follows each of the item's wishes."""
    return [rate(item.prompt, text, wish) for wish in item.preferences]

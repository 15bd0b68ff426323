"""Who judged (models, people, other tools' judges), and what was found of how well they do."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.keys import masked_values
from mipo_eval.signature import short
from mipo_eval.store.engine import Store, lasting
from mipo_eval.store.tables import choices, judges, validations, verdicts
from mipo_eval.verdict import Verdict, constant, merge_orders

EVERYBODY = "people"
"""Stands for everybody of kind human."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJudge:
    """A judge that said something in this store."""

    key: str
    name: str
    spec: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name, with the key's first digits, as signatures have it."""
        return f"{self.name} ({short(self.key)})"

    @property
    def is_person(self) -> bool:
        """Whether it is a person, as the board's Label page keeps them."""
        return self.spec.get("kind") == "human"

    @property
    def protocol(self) -> str:
        """How it is asked; "person" for people, empty where it is not known."""
        return "person" if self.is_person else str(self.spec.get("protocol", ""))


@lasting
def put_judge(
    store: Store, judge_key: str, name: str, spec: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Record who judges how under `judge_key`; what is recorded already stays, or is replaced."""
    with store.write() as connection:
        row = {"judge_key": judge_key, "name": name, "spec": masked_values(spec)}
        store.put(connection, judges, [row], replace=["spec"] if replace else [])


def judge_names(store: Store) -> dict[str, str]:
    """Return what judges are called, by key; those of equal name with the key's beginning."""
    known = list_judges(store)
    names = [judge.name for judge in known]
    return {
        judge.key: judge.name if names.count(judge.name) == 1 else judge.label for judge in known
    }


def list_judges(store: Store) -> list[StoredJudge]:
    """Return every judge of the store, by name and key."""
    query = sa.select(judges).order_by(judges.c.name, judges.c.judge_key)
    return [
        StoredJudge(key=row.judge_key, name=row.name, spec=row.spec) for row in store.fetch(query)
    ]


def find_judge(store: Store, name: str, among: Collection[str | None] | None = None) -> StoredJudge:
    """Return the judge with this name, spec, or beginning of a key; as its replies are read now.

    Args:
        store: whose judges.
        name: as the user gave it.
        among: short keys of those that judged what is asked about: where several share the name,
            one of these is meant.

    Raises:
        ConfigError: no judge or several judges match.
    """
    known = list_judges(store)
    found = [j for j in known if name in {j.name, j.spec.get("spec")} or j.key.startswith(name)]
    found = [j for j in found if among and short(j.key) in among] or found
    asked = [{**judge.spec, "parser": None, "judge_key": None} for judge in found]
    if found and all(one == asked[0] for one in asked):  # only the parser's version differs
        return max(found, key=lambda judge: int(judge.spec.get("parser", 0)))
    labels = ", ".join(judge.label for judge in found or known) or "none yet"
    if found:
        raise ConfigError(f"several judges are called {name!r}: {labels}; name one by its key")
    raise ConfigError(f"there is no judge {name!r} in {store.name}; it has: {labels}")


def choosers(store: Store) -> list[StoredJudge]:
    """Return the judges and people that chose between texts."""
    keys = {key for (key,) in store.fetch(sa.select(choices.c.judge_key).distinct())}
    return [judge for judge in list_judges(store) if judge.key in keys]


def find_people(store: Store, names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of people by their names; `people` stands for everybody of kind human.

    Raises:
        ConfigError: nobody of that name has labelled anything.
    """
    known = choosers(store)
    found: list[str] = []
    for wanted in names:
        own = [
            judge.key
            for judge in known
            if (judge.is_person if wanted == EVERYBODY else judge.name == wanted)
        ]
        if not own:
            people = ", ".join(judge.name for judge in known if judge.is_person) or "nobody yet"
            raise ConfigError(
                f"{wanted!r} has labelled no pairs in {store.name}; people who have: {people}"
            )
        found += [key for key in own if key not in found]
    return tuple(found)


def specs_of(store: Store, judge_keys: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return how each of these judges is asked, by key."""
    query = sa.select(judges.c.judge_key, judges.c.spec)
    rows = store.fetch(query.where(judges.c.judge_key.in_(judge_keys)))
    return {key: spec for key, spec in rows}


MARK = "(!)"
"""Stands beside every judge that must not be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good one judge was on one set of labelled pairs."""

    judge_key: str
    data: str
    """Name of the data: "llmbar", "prism", or the name of a file."""
    data_key: str
    """Digest of the pairs, so that a changed file is other data."""
    figures: Mapping[str, Any]
    """What `mipo-eval validate --json` shows."""
    failings: Sequence[str]
    """Why this judge must not be believed, one line each; empty for a judge that passes."""
    created_at: datetime


@lasting
def put_validation(store: Store, validation: Validation) -> None:
    """Store a validation; one of the same judge on the same pairs is replaced."""
    row = {name: getattr(validation, name) for name in Validation.__dataclass_fields__}
    row["failings"] = list(validation.failings)
    with store.write() as connection:
        store.put(connection, validations, [row], replace=["figures", "failings", "created_at"])


def list_validations(store: Store) -> list[Validation]:
    """Return every validation, by judge and data."""
    query = sa.select(validations).order_by(validations.c.judge_key, validations.c.data)
    return [Validation(**row._mapping) for row in store.fetch(query)]


def largest_validations(store: Store) -> list[Validation]:
    """Return, of each judge and data, the validation over most pairs; of equal ones the latest.

    A trial on a few pairs says little, whatever came of it, once the whole data were used.
    """
    found: dict[tuple[str, str], Validation] = {}
    for own in list_validations(store):
        key = (own.judge_key, own.data)
        if key not in found or _weight(own) > _weight(found[key]):
            found[key] = own
    return list(found.values())


def _weight(validation: Validation) -> tuple[int, datetime]:
    return int(validation.figures.get("pairs", 0)), validation.created_at


NOTHING_APART = "tells nothing apart: "
"""How the reason begins of a judge whose own ratings or choices are all alike."""
ONLY_AS = "validated only as "
"""How the reason begins of a judge that was validated by another protocol than it is asked by."""
_SAMPLE = 2_000
"""Ratings or choices looked at, in the order of items' keys, which is a random one."""
_LEAST = 10
"""Fewer ratings, or pairs, say nothing of how a judge tells texts apart."""


def failing_judges(store: Store) -> dict[str, tuple[str, ...]]:
    """Return, by judge key, why judges must not be believed.

    A judge may tell nothing apart in what it judged here; or have failed its validation, each
    reason with its data; or have failed it where the same model was asked by another protocol,
    while nobody validated it as it is asked here.
    """
    known = {judge.key: judge for judge in list_judges(store)}
    found: dict[str, tuple[str, ...]] = {
        key: (f"{NOTHING_APART}{how}",)
        for key, judge in known.items()
        if not judge.is_person and (how := _constant(store, key))
    }
    validations = largest_validations(store)
    validated = {validation.judge_key for validation in validations}
    for validation in validations:
        key, asked = validation.judge_key, known.get(validation.judge_key)
        lines = tuple(f"{validation.data}: {failing}" for failing in validation.failings)
        if not lines:
            continue
        found[key] = found.get(key, ()) + lines
        for other in known.keys() - validated:
            if asked and _asked_otherwise(known[other], asked):
                told = tuple(f"{ONLY_AS}{asked.protocol}, where it fails on {x}" for x in lines)
                found[other] = found.get(other, ()) + told
    return found


def _asked_otherwise(judge: StoredJudge, other: StoredJudge) -> bool:
    """Return whether two judges are the same model, asked by two protocols."""
    backend = judge.spec.get("backend")
    return bool(backend) and (
        backend == other.spec.get("backend") and judge.protocol != other.protocol
    )


def _constant(store: Store, judge_key: str) -> str | None:
    """Return how what a judge said in this store is all alike, or None where it is not."""
    given = sa.select(verdicts.c.item_key, verdicts.c.text_key, verdicts.c.rating)
    given = given.where(verdicts.c.judge_key == judge_key, verdicts.c.rating.is_not(None))
    chosen = sa.select(choices).where(choices.c.judge_key == judge_key)
    rated = store.fetch(given.order_by(*verdicts.primary_key).limit(_SAMPLE))
    picked = store.fetch(chosen.order_by(*choices.primary_key).limit(_SAMPLE))
    counts = Counter(float(rating) for _, _, rating in rated)
    of_items: dict[str, Counter[str]] = {}
    for item_key, text, rating in rated:
        of_items.setdefault(item_key, Counter())[text] += rating
    if len(rated) == _SAMPLE:
        of_items.popitem()  # the last may be there in part
    pairs = [len(set(sums.values())) == 1 for sums in of_items.values() if len(sums) > 1]
    of_pairs: dict[tuple[str, str, str], list[Verdict | None]] = {}
    for row in picked:
        pair = (row.item_key, row.text_key_a, row.text_key_b)
        of_pairs.setdefault(pair, []).append(row.winner)
    joined = [merge_orders(own[0], own[-1]) for own in of_pairs.values()]
    pairs += [winner == "tie" for winner in joined if winner is not None]
    return constant(
        counts if counts.total() >= _LEAST else {},
        sum(pairs) if len(pairs) >= _LEAST else 0,
        len(pairs),
    )


def reasons_text(reasons: Sequence[str]) -> str:
    """Return the reasons why a judge must not be believed as what is said of it, in one line."""
    own = [reason for reason in reasons if reason.startswith((NOTHING_APART, ONLY_AS))]
    failed = [reason for reason in reasons if reason not in own]
    validation = [f"fails its validation on {'; on '.join(failed)}"] if failed else []
    return "; ".join([*own, *validation])


def failing_by_short_key(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the same by the keys that signatures have."""
    return {short(key): reasons for key, reasons in failing_judges(store).items()}

"""Pairs of responses that people, or a rule, have labelled: what a judge is measured against.

Any file of this form will do (`FORMS` of mipo_eval/rows.py), one pair per row:

    {"prompt": "...", "first": "...", "second": "...", "label": "a" | "b" | "tie",
     "preferences": ["..."], "annotators": ["a", "a", "tie"], "group": "...", "subset": "..."}

or, where one response was chosen, {"prompt": "...", "chosen": "...", "rejected": "..."}. Only the
prompt, the texts and the label are needed. Public sets are read in their own formats:

    llmbar       .../LLMBar/SUBSET/dataset.json, and .../evaluators/MODEL/PROMPT/result.json
    judgebench   dataset=...,response_model=....jsonl, with or without a judge's replies
    pandalm      testset-v1.json (three people), and NAME-testset-v1.json beside it
    psoups       a list of {"prompt", "chosen", "rejected", "ground_truth_persona", ...}

Personalized RewardBench is read with its items, in tasks/pairs.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.keys import digest, item_rng
from mipo_eval.metrics.agreement import Agreement, Reliability, agreement, reliability
from mipo_eval.records import Item
from mipo_eval.rows import is_columnar, read_rows, without_nulls
from mipo_eval.verdict import CREDIT, Verdict, exchanged

ANY_WISH = "The reply does what was asked for, correctly and completely."
"""What a judge goes by where the data name no preferences."""


class LabelledPair(BaseModel):
    """Two responses to one prompt, and which of them is the better one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair_id: str
    prompt: str = Field(min_length=1)
    first: str
    second: str
    label: Verdict
    """"a" is the first; the majority's, where there are several people."""
    preferences: tuple[str, ...] = ()
    annotators: tuple[Verdict | None, ...] = ()
    """What each person said, in the same order for every pair; None where one was not asked."""
    group: str = ""
    """Pairs with the same prompt, the unit of resampling; the pair itself where empty."""
    subset: str = ""

    @property
    def unit(self) -> str:
        """The unit of resampling."""
        return self.group or self.pair_id

    def item(self) -> Item:
        """Return what a judge is asked about, for either protocol."""
        return Item(
            item_id=self.pair_id,
            prompt=self.prompt,
            preferences=self.preferences or (ANY_WISH,),
            group_id=self.group or None,
        )


def read_pairs(source: Path | str) -> tuple[LabelledPair, ...]:
    """Return the pairs of a file, or of a data set on the hub, in the form of this module.

    Raises:
        DataError: the file cannot be read or holds no pair; a line is wrong, and which field.
    """
    found = read_rows(source)
    if is_columnar(source):
        found = map(without_nulls, found)
    pairs = tuple(_pair(where, row) for where, row in found)
    if not pairs:
        raise DataError(f"{source} contains no pairs")
    repeated = [name for name, n in Counter(pair.pair_id for pair in pairs).items() if n > 1]
    if repeated:
        raise DataError(f"{source}: the pair_id {repeated[0]!r} is used more than once")
    return pairs


def pairs_of_items(items: Iterable[Item]) -> tuple[LabelledPair, ...]:
    """Return a pair per item whose user chose the reference over a response that was kept.

    Prepared items of Community Alignment and PRISM keep it as `meta["rejected"]`; items without
    one are passed over.
    """
    pairs = (
        LabelledPair(
            pair_id=item.item_id,
            prompt=item.transcript,
            first=item.reference,
            second=item.meta["rejected"],
            label="a",
            preferences=item.preferences,
            group=item.group,
        )
        for item in items
        if item.reference and isinstance(item.meta.get("rejected"), str)
    )
    return mixed(pairs)


def mixed(pairs: Iterable[LabelledPair]) -> tuple[LabelledPair, ...]:
    """Return the pairs with first and second exchanged in about half of them.

    Where the chosen response always comes first, saying "a" every time would be a perfect judge,
    and Cohen's kappa would have nothing to measure. The draw of a pair depends on it alone.
    """
    return tuple(
        _exchanged(pair) if item_rng(0, "place", pair.pair_id).random() < 0.5 else pair
        for pair in pairs
    )


def _exchanged(pair: LabelledPair) -> LabelledPair:
    return pair.model_copy(
        update={
            "first": pair.second,
            "second": pair.first,
            "label": exchanged(pair.label),
            "annotators": tuple(exchanged(said) for said in pair.annotators),
        }
    )


def first_of_each(pairs: Sequence[LabelledPair], limit: int | None) -> tuple[LabelledPair, ...]:
    """Return the first `limit` pairs of each subset, in their order; all of them for None."""
    seen: Counter[str] = Counter()
    kept = []
    for pair in pairs:
        seen[pair.subset] += 1
        if limit is None or seen[pair.subset] <= limit:
            kept.append(pair)
    return tuple(kept)


def pairs_key(pairs: Sequence[LabelledPair]) -> str:
    """Return the content key of pairs in their order: a changed label is other data."""
    return digest([pair.model_dump(mode="json") for pair in pairs])


def majority(labels: Sequence[Verdict | None]) -> Verdict | None:
    """Return what most people said, or None when no label is ahead.

    Example:
        >>> majority(["a", "a", "tie"]), majority(["a", "b"])
        ('a', None)
    """
    ranked = Counter(label for label in labels if label is not None).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


Model = TypeVar("Model", bound=BaseModel)


def validated(where: str, model: type[Model], fields: Mapping[str, Any]) -> Model:
    """Return a record from the fields of a line.

    Raises:
        DataError: a field is wrong, and which.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {field or 'the line'}: {first['msg']}") from None


def _pair(where: str, row: dict[str, Any]) -> LabelledPair:
    fields = {"pair_id": where.rpartition(" ")[2], **row}
    if "chosen" in row and "rejected" in row:
        fields = {k: v for k, v in fields.items() if k not in {"chosen", "rejected"}}
        fields |= {"first": row["chosen"], "second": row["rejected"], "label": "a"}
    if "label" not in fields and row.get("annotators"):
        fields["label"] = majority(row["annotators"])
    return validated(where, LabelledPair, fields)


def people_agreement(pairs: Sequence[LabelledPair]) -> dict[tuple[int, int], Agreement]:
    """Return the agreement of every two people, counted from 1, who labelled a pair in common."""
    told = (credits_of(pair.annotators) for pair in pairs)
    said = list(zip_longest(*told))  # per person, all pairs
    groups = [pair.unit for pair in pairs]
    found = {
        (i + 1, j + 1): agreement(said[i], said[j], groups)
        for i, j in combinations(range(len(said)), 2)
    }
    return {people: own for people, own in found.items() if own.n}


def people_together(pairs: Sequence[LabelledPair]) -> Reliability:
    """Return how far all people agree, each of whom may have labelled some pairs."""
    told = (credits_of(pair.annotators) for pair in pairs)
    return reliability(told, "ordinal", [pair.unit for pair in pairs])


def credits_of(labels: Iterable[Verdict | None]) -> list[float | None]:
    """Return labels as numbers, between whose ends a tie stands."""
    return [None if label is None else CREDIT[label] for label in labels]


PANDALM_PAIRS = "testset-v1.json"
ARENA: dict[str, Verdict] = {"A>>B": "a", "A>B": "a", "A=B": "tie", "B>A": "b", "B>>A": "b"}
PANDALM: dict[int, Verdict] = {0: "tie", 1: "a", 2: "b"}
_LLMBAR: dict[int, Verdict] = {1: "a", 2: "b"}
_JUDGEBENCH_SUBSETS = {
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
"""JudgeBench's categories; all other sources are MMLU-Pro's subjects, which it calls knowledge."""

PairRow = tuple[LabelledPair, Mapping[str, Any]]
"""A pair with the row of the file that holds it, and a judge's replies where there are any."""


def pair_rows(name: str, path: Path) -> list[PairRow]:
    """Return the pairs of a public set, from a file of its own format.

    Raises:
        DataError: there is no such set, or the file is not of its format.
    """
    if name not in PAIR_SETS:
        raise DataError(f"unknown set of labelled pairs {name!r}; known: {', '.join(PAIR_SETS)}")
    with in_format(name, path):
        return list(PAIR_SETS[name](path))


@contextmanager
def in_format(name: str, path: Path) -> Iterator[None]:
    """Say of whatever goes wrong inside that the file is not in the format of the set.

    Raises:
        DataError: the file cannot be read, or is of another format.
    """
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{path} is not in the format of {name} ({reason})") from error


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row.data for row in read_rows(path)]


def _llmbar(path: Path) -> Iterator[PairRow]:
    parts = path.absolute().parts
    known = [i for i, part in enumerate(parts) if part in {"Adversarial", "Natural"}]
    names = parts[known[-1] : -1] if known else ()
    subset = "/".join(names[: names.index("evaluators")] if "evaluators" in names else names)
    for number, row in enumerate(_rows(path)):
        if row["label"] not in _LLMBAR:
            raise DataError(f"{path}, row {number + 1}: label is {row['label']!r}; it is 1 or 2")
        pair = LabelledPair(
            pair_id=f"llmbar-{number}",
            prompt=row["input"],
            first=row["output_1"],
            second=row["output_2"],
            label=_LLMBAR[row["label"]],
            subset=subset,
        )
        yield pair, row


def _judgebench(path: Path) -> Iterator[PairRow]:
    for row in _rows(path):
        pair = LabelledPair(
            pair_id=row["pair_id"],
            prompt=row["question"],
            first=row["response_A"],
            second=row["response_B"],
            label=ARENA[row["label"]],
            subset=_JUDGEBENCH_SUBSETS.get(row["source"], "knowledge"),
        )
        yield pair, row


def _pandalm(path: Path) -> Iterator[PairRow]:
    path = path / PANDALM_PAIRS if path.is_dir() else path
    rows = _rows(path)
    if "pandalm_result" not in rows[0]:
        yield from ((_pandalm_pair(row), row) for row in rows)
        return
    beside = path.parent / PANDALM_PAIRS
    if not beside.is_file():
        raise DataError(f"{path} has verdicts but not their pairs: put {PANDALM_PAIRS} beside it")
    said = {str(row["idx"]): row for row in rows}
    for pair, _ in pair_rows("pandalm", beside):
        yield pair, said.get(pair.pair_id, {})


def _pandalm_pair(row: Mapping[str, Any]) -> LabelledPair:
    people = [PANDALM[int(row[f"annotator{number}"])] for number in (1, 2, 3)]
    label = majority(people)
    if label is None:
        raise ValueError(f"the three people of pair {row['idx']} all disagree")
    prompt = "\n\n".join(part for part in (row["instruction"], row["input"]) if part.strip())
    return LabelledPair(
        pair_id=str(row["idx"]),
        prompt=prompt or "(no instruction)",
        first=str(row["response1"]),  # one response is the bare word True, which JSON keeps
        second=str(row["response2"]),
        label=label,
        annotators=tuple(people),
        subset=row["cmp_key"],
    )


def _psoups(path: Path) -> Iterator[PairRow]:
    """Yield persona pairs: the chosen response fits the persona, which is the one preference."""
    for number, row in enumerate(_rows(path)):
        pair = LabelledPair(
            pair_id=f"psoups-{number}",
            prompt=row["prompt"],
            first=row["chosen"],
            second=row["rejected"],
            label="a",
            preferences=(row["ground_truth_persona"],),
            group=row["prompt"],
        )
        yield pair, row


PAIR_SETS: Mapping[str, Callable[[Path], Iterator[PairRow]]] = {
    "llmbar": _llmbar,
    "judgebench": _judgebench,
    "pandalm": _pandalm,
    "psoups": _psoups,
}
"""Name to how its files are read."""

"""Public sets of labelled pairs in their own formats, with the replies of judges stored in them.

    llmbar       .../LLMBar/SUBSET/dataset.json, and .../evaluators/MODEL/PROMPT/result.json
    judgebench   dataset=...,response_model=....jsonl, with or without a judge's replies
    pandalm      testset-v1.json (three people), and NAME-testset-v1.json beside it
    psoups       a list of {"prompt", "chosen", "rejected", "ground_truth_persona", ...}

Stored replies are read by our parsers, not taken from what the files say of them. Where a set
has a rule of its own for turning replies into a verdict, that rule is spelled out here.
"""

import json
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import LabelledPair, majority
from mipo_eval.judges.parse import parse_choice, parse_rating
from mipo_eval.judges.replies import PairReading
from mipo_eval.judges.verdict import Verdict
from mipo_eval.metrics.agreement import cohen_kappa

_EXCHANGED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
_ARENA: dict[str, Verdict] = {"A>>B": "a", "A>B": "a", "A=B": "tie", "B>A": "b", "B>>A": "b"}
_LLMBAR: dict[int, Verdict] = {1: "a", 2: "b"}
_PANDALM: dict[int, Verdict] = {0: "tie", 1: "a", 2: "b"}


class Benchmark(NamedTuple):
    """Labelled pairs, and what a judge said of each where the file holds replies."""

    pairs: tuple[LabelledPair, ...]
    readings: tuple[PairReading, ...]
    """One per pair; empty where the file holds no replies."""


def load_benchmark(name: str, path: Path) -> Benchmark:
    """Return a set by its name, from a file of its own format.

    Raises:
        DataError: there is no such set, or the file is not of its format.
    """
    if name not in BENCHMARKS:
        raise DataError(f"unknown set of labelled pairs {name!r}; known: {', '.join(BENCHMARKS)}")
    try:
        return BENCHMARKS[name](path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is not in the format of {name} ({reason})") from error


def load_llmbar(path: Path) -> Benchmark:
    """Return LLMBar's pairs: `dataset.json`, or a judge's `result.json`, which holds them too."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    pairs = tuple(
        LabelledPair(
            pair_id=f"llmbar-{number}",
            prompt=row["input"],
            first=row["output_1"],
            second=row["output_2"],
            label=_LLMBAR[row["label"]],
            subset=_llmbar_subset(path),
        )
        for number, row in enumerate(rows)
    )
    if "results" not in rows[0]:
        return Benchmark(pairs, ())
    readings = [
        _llmbar_reading(pair, row["results"][0]) for pair, row in zip(pairs, rows, strict=True)
    ]
    return Benchmark(pairs, tuple(readings))


def _llmbar_subset(path: Path) -> str:
    parts = path.absolute().parts
    known = [i for i, part in enumerate(parts) if part in {"Adversarial", "Natural"}]
    if not known:
        return ""
    names = parts[known[-1] : -1]
    return "/".join(names[: names.index("evaluators")] if "evaluators" in names else names)


def _llmbar_reading(pair: LabelledPair, result: dict[str, Any]) -> PairReading:
    if "score_1" not in result:
        straight = parse_choice(result["swap = False"]["completion"][0])
        swapped = parse_choice(result["swap = True"]["completion"][0])
        return PairReading.of(pair, straight, _EXCHANGED[swapped] if swapped else None)
    first, second = (parse_rating(result[key][0], 0, 10) for key in ("score_1", "score_2"))
    return PairReading.of(pair, *llmbar_verdicts(first, second), ratings=(first, second))


def llmbar_verdicts(first: int | None, second: int | None) -> tuple[Verdict, Verdict]:
    """Return LLMBar's verdicts for a pair of ratings, straight and with the places exchanged.

    Its rule for a forced choice: the response shown first wins only with the strictly higher
    rating, and also where a rating is missing; otherwise the one shown second wins. It is kept here
    to reproduce the published accuracies; our own numbers count ties and missing ratings as such.
    """
    if first is None or second is None:
        return "a", "b"
    return ("a" if first > second else "b"), ("b" if second > first else "a")


def load_judgebench(path: Path) -> Benchmark:
    """Return JudgeBench's pairs, with a judge's replies in Arena-Hard's form where it has them."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    pairs = tuple(
        LabelledPair(
            pair_id=row["pair_id"],
            prompt=row["question"],
            first=row["response_A"],
            second=row["response_B"],
            label=_ARENA[row["label"]],
            subset=_judgebench_subset(row["source"]),
        )
        for row in rows
    )
    if "judgments" not in rows[0]:
        return Benchmark(pairs, ())
    readings = []
    for pair, row in zip(pairs, rows, strict=True):
        said = [_arena_reply(judgment) for judgment in row["judgments"]]
        swapped = said[1] if len(said) > 1 else None
        readings.append(
            PairReading.of(
                pair,
                said[0],
                _EXCHANGED[swapped] if swapped else None,
                both_orders=len(said) > 1,
            )
        )
    return Benchmark(pairs, tuple(readings))


def _judgebench_subset(source: str) -> str:
    """JudgeBench's categories: LiveBench's two, LiveCodeBench, and MMLU-Pro for the rest."""
    names = {
        "livebench-reasoning": "reasoning",
        "livebench-math": "math",
        "livecodebench": "coding",
    }
    return names.get(source, "knowledge")


def _arena_reply(judgment: dict[str, Any]) -> Verdict | None:
    told = judgment.get("judgment")
    return parse_arena(told["response"] or "") if told else None


def parse_arena(reply: str) -> Verdict | None:
    """Return the verdict of a reply in Arena-Hard's form, [[A>>B]] to [[B>>A]].

    The form is read as its authors read it: what stands in double brackets, if it is one label.
    A strong and a weak preference for the same response are two labels, and no verdict.
    """
    found = set(re.findall(r"\[\[([AB<>=]+)\]\]", reply))
    return _ARENA.get(found.pop()) if len(found) == 1 else None


def load_pandalm(path: Path) -> Benchmark:
    """Return PandaLM's test set with its three people, and a judge's verdicts from its own file."""
    if path.is_dir():
        path /= "testset-v1.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    if "pandalm_result" in rows[0]:
        verdicts = {str(row["idx"]): _PANDALM[int(row["pandalm_result"])] for row in rows}
        pairs = load_pandalm(path.parent / "testset-v1.json").pairs
        readings = tuple(
            PairReading.of(pair, verdicts.get(pair.pair_id), None, both_orders=False)
            for pair in pairs
        )
        return Benchmark(pairs, readings)
    return Benchmark(tuple(_pandalm_pair(row) for row in rows), ())


def _pandalm_pair(row: dict[str, Any]) -> LabelledPair:
    people = [_PANDALM[int(row[f"annotator{number}"])] for number in (1, 2, 3)]
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


def load_psoups(path: Path) -> Benchmark:
    """Return persona pairs: the chosen response fits the persona, which is the one preference."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    pairs = tuple(
        LabelledPair(
            pair_id=f"psoups-{number}",
            prompt=row["prompt"],
            first=row["chosen"],
            second=row["rejected"],
            label="a",
            preferences=(row["ground_truth_persona"],),
            group=row["prompt"],
        )
        for number, row in enumerate(rows)
    )
    return Benchmark(pairs, ())


BENCHMARKS = {
    "llmbar": load_llmbar,
    "judgebench": load_judgebench,
    "pandalm": load_pandalm,
    "psoups": load_psoups,
}
"""Name to how its files are read."""


class PeopleAgreement(NamedTuple):
    """How far two people agree over the pairs that both labelled."""

    n: int
    share: float
    """0-100 of equal labels."""
    kappa: float | None
    """Cohen's; None where both always say the same one thing."""


def people_agreement(pairs: Sequence[LabelledPair]) -> dict[tuple[int, int], PeopleAgreement]:
    """Return the agreement of every two people, counted from 1, who labelled a pair in common."""
    found = {}
    people = max((len(pair.annotators) for pair in pairs), default=0)
    for i, j in combinations(range(people), 2):
        both = [
            (pair.annotators[i], pair.annotators[j])
            for pair in pairs
            if len(pair.annotators) > j and None not in {pair.annotators[i], pair.annotators[j]}
        ]
        if both:
            share = 100 * sum(a == b for a, b in both) / len(both)
            kappa = cohen_kappa(*zip(*both, strict=True))
            found[i + 1, j + 1] = PeopleAgreement(len(both), share, kappa)
    return found

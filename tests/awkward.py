"""One store in a dozen awkward states, made by the commands a user would give.

Suite "tea", eighteen items: a run from a file of responses (`good`) against the references, chosen
between by two judges that differ, in every state that a pair can be left in; `twin` is a run whose
responses are the references, so that every pair also stands between two runs. Two people labelled
some of the pairs. Suite "late", eight items: two runs of the main job, rated by two judges, one of
which refused half of a run at first and rated it after the run had been scored. Two models of
AlpacaEval and two of Arena-Hard are imported.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mipo_eval.records import Item
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, ok, refusal

if TYPE_CHECKING:  # read with every test: what the fixture needs it imports itself
    from mipo_eval.verdict import Choice

UNREAD, REFUSED, NEVER = "?", "x", "-"

PAIRS: Sequence[tuple[str, tuple[str, str], tuple[str, str]]] = (
    ("exchanged, won", ("a", "a"), ("a", "a")),
    ("exchanged, lost", ("b", "b"), ("b", "b")),
    ("both ways round; the judges differ", ("a", "a"), ("b", "b")),
    ("both ways round, won", ("a", "a"), ("a", "a")),
    ("both orders, won; the second judge flips", ("a", "a"), ("a", "b")),
    ("both orders, lost", ("b", "b"), ("b", "b")),
    ("flipped: the first place", ("a", "b"), ("a", "a")),
    ("flipped: the second place", ("b", "a"), ("tie", "tie")),
    ("won, then a tie", ("a", "tie"), ("a", "a")),
    ("a tie, then lost", ("tie", "b"), ("b", "b")),
    ("a tie in both orders", ("tie", "tie"), ("a", "a")),
    ("unread in one order", ("a", UNREAD), ("a", "a")),
    ("unread in both orders", (UNREAD, UNREAD), ("b", "b")),
    ("refused in one order", ("a", REFUSED), ("a", "a")),
    ("equal texts", ("", ""), ("", "")),
    ("stopped after the first order, won", ("a", NEVER), ("a", "a")),
    ("stopped after the first order, lost", ("b", NEVER), ("tie", "tie")),
    ("no response", ("", ""), ("", "")),
)
"""State, and what judges one and two name with the response in the first place, then in the
second: "a" is the response, "b" the reference."""
EXCHANGED, BOTH_WAYS = 2, 4
"""How many pairs, the first, are asked about as reference against response: some of them only so,
the others also as response against reference."""
EQUAL, ABSENT = 14, 17
"""The pair of equal texts, and the item without a response."""

LABELS: Mapping[str, Mapping[int, str | None]] = {
    "ann": {2: "a", 3: None, 5: "b", 6: "a", 8: "tie", 15: "a"},
    "bob": {2: "a", 5: "a", 6: "b", 8: "tie"},
}
"""Person to what they said of which pair, shown once; None is skipped."""

RATED: Mapping[str, Mapping[str, Sequence[int]]] = {
    "early": {"rater": (5, 5, 5, 3, 3, 1, 1, 5), "other-rater": (5, 1, 5, 3, 1, 1, 5, 3)},
    "other": {"rater": (4, 2) * 4, "other-rater": (4, 2) * 4},
}
"""Model to rater to the rating of both preferences of each item; references are rated 3."""
LATE = range(4, 8)
"""Items of `early` that "rater" refuses until the run is scored."""
SAME = 3
"""The item that `early` answers with the very reference."""

ANNOTATED = {"m1": (2, 2, 1.5, 1, None, 2), "m2": (1, 1, 2, 1, 2, 1.5)}
"""Imported model to the annotator's preference per instruction: 2 is the model, 1 the baseline."""

GAMES: Mapping[str, Sequence[tuple[str | None, ...]]] = {
    "h1": (
        ("B>A", "A>B"),  # won
        ("A>B", "A>B"),  # flipped
        ("B>A", "A=B"),  # won, then a tie
        (None, "A>B"),  # unread in one order
        ("B>A",),  # stopped after the first order
        ("A>B", "B>A"),  # lost
    ),
    "h2": (
        ("A>B", "B>A"),
        ("B>A", "A>B"),
        ("B>>A", "A>>B"),
        ("A=B", "A=B"),
        ("A>B", "B>A"),
        ("B>A", "A>B"),
    ),
}
"""Imported model of Arena-Hard to the verdicts per question: the model stands second, then
first."""


def grouped(number: int) -> tuple[str, str]:
    """Return an item's prompt group and user: prompts and users both come back."""
    return f"tea-{number // 2}", f"user-{number % 2}"


def _items(suite: str, count: int) -> list[Item]:
    return [
        Item(
            item_id=f"{suite}-{n}",
            prompt=f"What is {suite} number {n}?",
            preferences=("Keep it short.", "Use easy words."),
            reference=f"Reference {n}. It is a drink.",
            group_id=grouped(n)[0],
            user_id=grouped(n)[1],
        )
        for n in range(count)
    ]


def _number(text: str, suite: str) -> int:
    return int(text.partition(f"{suite} number ")[2].partition("?")[0])


class Judges:
    """The server behind all judges: `one` and `two` choose, the raters rate."""

    def __init__(self) -> None:
        self.refuses_late = True

    def __call__(self, call: Call) -> Act:
        text = str(call.body["messages"][-1]["content"])
        name = call.body["model"]
        return self._choice(name, text) if "tea number" in text else self._rating(name, text)

    def _choice(self, name: str, text: str) -> Act:
        number = _number(text, "tea")
        response_first = text.index(f"Response {number}.") < text.index(f"Reference {number}.")
        said = PAIRS[number][1 if name == "one" else 2][0 if response_first else 1]
        if said in {REFUSED, NEVER}:
            return refusal()
        if said == UNREAD:
            return ok("Both have merit.")
        if said == "tie":
            return ok("tie")
        return ok("response_a" if (said == "a") == response_first else "response_b")

    def _rating(self, name: str, text: str) -> Act:
        model = next((model for model in RATED if f"{model} says" in text), None)
        if model is None:
            return ok("3")
        number = _number(text, "late")
        if self.refuses_late and (model, name) == ("early", "rater") and number in LATE:
            return refusal()
        return ok(str(RATED[model][name][number]))


def _answers(call: Call) -> Act:
    """Answer as the evaluated model of that name."""
    number = _number(str(call.body["messages"][-1]["content"]), "late")
    name = call.body["model"]
    same = name == "early" and number == SAME
    text = f"Reference {number}. It is a drink." if same else f"{name} says {number}."
    return ok(text, model=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Awkward:
    """The store, who judged, and the runs by name."""

    path: Path
    judges: Mapping[str, str]
    """Name to what `--judge` is given."""
    runs: Mapping[str, str]
    """Name to run id."""
    main_jobs: Mapping[str, Sequence[str]]
    """Name of an evaluated run to the arguments that make it."""


def ask(*argv: str) -> str:
    """Run a command and return what it prints."""
    from mipo_eval.cli import main

    with redirect_stdout(StringIO()) as shown, redirect_stderr(StringIO()) as errors:
        code = main(list(argv))
    assert code == 0, f"mipo-eval {' '.join(argv)}: {errors.getvalue()}"
    return shown.getvalue()


def _preset(folder: Path, name: str, url: str, protocol: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"description: d\nbackend: openai:{name}@{url}\nprotocol: {protocol}\n")
    return str(path)


def _write_files() -> None:
    from mipo_eval.tasks.items import write_items

    write_items(Path("tea.jsonl"), _items("tea", len(PAIRS)))
    write_items(Path("late.jsonl"), _items("late", 8))
    references = [item.reference for item in _items("tea", len(PAIRS))]
    good: list[str | None] = [f"Response {n}. It is hot." for n in range(len(PAIRS))]
    good[EQUAL], good[ABSENT] = references[EQUAL], None
    for name, texts in (("good", good), ("twin", references)):
        rows = [{"item_id": f"tea-{n}", "response": text} for n, text in enumerate(texts)]
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for model, preferences in ANNOTATED.items():
        annotations = [
            {
                "dataset": "d",
                "instruction": f"What is coffee number {n}?",
                "output_1": f"The baseline on {n}.",
                "generator_1": "baseline",
                "output_2": f"{model} on {n}.",
                "generator_2": model,
                "annotator": "annotator",
                "preference": preference,
            }
            for n, preference in enumerate(preferences)
        ]
        Path(f"{model}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in annotations))
    for model, games in GAMES.items():
        judged = [
            {
                "question_id": f"q{n}",
                "model": model,
                "baseline": "baseline",
                "judge": "arena-judge",
                "games": [
                    {"judgment": f"{n} {place}: {s}", "score": s} for place, s in enumerate(of)
                ],
            }
            for n, of in enumerate(games)
        ]
        Path(f"{model}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in judged))


def _main_job(models: str, name: str, judges: Mapping[str, str]) -> tuple[str, ...]:
    by = [part for name in ("rater", "other-rater") for part in ("--judge", judges[name])]
    return "--model", f"openai:{name}@{models}", "--suite", str(Path("late.jsonl").resolve()), *by


def _evaluate(main_jobs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Run the main job of every model."""
    documents = {
        name: json.loads(ask(*argv, "--store", "awkward.db", "--json"))
        for name, argv in main_jobs.items()
    }
    return {name: str(document["run_id"]) for name, document in documents.items()}


def _choose(judges: Mapping[str, str]) -> dict[str, str]:
    """Judge the pairs of `good`; `twin` is equal to the references, so nobody is asked."""
    by = ("--judge", judges["one"], "--judge", judges["two"])
    to = ("--store", "awkward.db", "--json")
    runs = {}
    for name in ("good", "twin"):
        files = (f"{name}.jsonl", "reference", "--suite", "tea.jsonl")
        document = json.loads(ask("judge", *files, *by, *to))
        runs[name] = str(document["entrants"][0]["run_id"])
    return runs


def _exchange_and_stop() -> None:
    """Turn pairs round, and take back the second orders that a judge was stopped before."""
    import sqlalchemy as sa

    from mipo_eval.store import Store
    from mipo_eval.store.tables import calls, choices, judges
    from mipo_eval.store.verdicts import choices_on, put_choices

    keys = [item.key for item in _items("tea", len(PAIRS))]
    with Store.open("awkward.db") as store:
        with store.read() as connection:
            asked = sa.select(judges.c.name, judges.c.judge_key)
            by = {name: key for name, key in connection.execute(asked) if name in {"one", "two"}}
        made = [one for key in by.values() for one in choices_on(store, key, keys[:BOTH_WAYS])]
        stopped = [key for key, (_, said, _) in zip(keys, PAIRS, strict=True) if said[1] == NEVER]
        unmade = [one for one in choices_on(store, by["one"], stopped) if one.shown_first == "b"]
        lost = [one for one in made if one.item_key in keys[:EXCHANGED]] + unmade
        with store.write() as connection:
            put_choices(store, connection, [_turned(one) for one in made])
            for one in lost:
                about = [choices.c[name] == getattr(one, name) for name in _KEY]
                connection.execute(sa.delete(choices).where(*about))
            failed = calls.c.call_key.in_([one.call_key for one in unmade])
            connection.execute(sa.delete(calls).where(failed))


_KEY = ("judge_key", "item_key", "text_key_a", "text_key_b", "shown_first")
_OTHER: Mapping[Any, Any] = {"a": "b", "b": "a", "tie": "tie"}


def _turned(one: "Choice") -> "Choice":
    """Return a choice as it is stored when the pair is given the other way round."""
    return replace(
        one,
        text_key_a=one.text_key_b,
        text_key_b=one.text_key_a,
        shown_first=_OTHER[one.shown_first],
        winner=_OTHER[one.winner],
    )


def _label(runs: Mapping[str, str]) -> None:
    from mipo_eval.dashboards.tables.label import Preferred, put_label, shown_first, stack
    from mipo_eval.store import Store
    from mipo_eval.store.runs import find_run

    numbers = {item.key: number for number, item in enumerate(_items("tea", len(PAIRS)))}
    with Store.open("awkward.db") as store:
        pairs = stack(store, find_run(store, runs["good"]), None).pairs
        for person, labels in LABELS.items():
            for pair in pairs:
                number = numbers[pair.item_key]
                if number in labels:
                    said = labels[number]
                    place: Preferred | None = "tie" if said == "tie" else None
                    if said in {"a", "b"}:
                        place = "first" if said == shown_first(person, pair) else "second"
                    put_label(store, person, pair, place)


def _import() -> dict[str, str]:
    runs = {}
    for model in (*ANNOTATED, *GAMES):
        document = json.loads(ask("import", f"{model}.jsonl", "--store", "awkward.db", "--json"))
        [runs[model]] = [str(run["run_id"]) for run in document["runs"]]
    return runs


@pytest.fixture(scope="session")
def awkward_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Awkward]:
    """The store, with its judges still there to be asked; copy it to use it."""
    folder = tmp_path_factory.mktemp("awkward")
    answers = Judges()
    with ExitStack() as stack:
        names = ("one", "two", "rater", "other-rater")
        judging = stack.enter_context(OpenAIServer(answers, policy=Policy(models=names)))
        models = stack.enter_context(OpenAIServer(_answers, policy=Policy(models=tuple(RATED))))
        judges = {
            name: _preset(
                folder, name, judging.url, "pairwise-tie" if name in {"one", "two"} else "rubric"
            )
            for name in names
        }
        with chdir(folder):
            _write_files()
            main_jobs = {name: _main_job(models.url, name, judges) for name in RATED}
            runs = _evaluate(main_jobs)
            answers.refuses_late = False
            late = ("judge", runs["early"], "reference", "--protocol", "rubric")
            ask(*late, "--judge", judges["rater"], "--store", "awkward.db", "--json")
            runs |= _choose(judges)
            _exchange_and_stop()
            _label(runs)
            runs |= _import()
        yield Awkward(path=folder / "awkward.db", judges=judges, runs=runs, main_jobs=main_jobs)

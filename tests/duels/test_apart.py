"""Where two entrants differ most: by judges, then margins, then words; gaps weighed by number."""

from collections.abc import Sequence
from fractions import Fraction

import pytest

from mipo_eval.duels.apart import examples, gaps
from mipo_eval.duels.duel import Entry, Match
from mipo_eval.duels.entrants import Entrant
from mipo_eval.judges.panel import balance
from mipo_eval.records import Item, Rating, text_key
from mipo_eval.signature import NOTHING
from mipo_eval.store import Store
from mipo_eval.store.verdicts import put_ratings
from mipo_eval.verdict import PairVerdict

A = Entrant(label="A", name="a", about="", run=None, kind=None)
B = Entrant(label="B", name="b", about="", run=None, kind=None)


def match(
    outcomes: Sequence[PairVerdict], texts: Sequence[tuple[str, str]], judge: str = "j"
) -> Match:
    items = [
        Item(item_id=str(n), prompt=f"{n}?", preferences=("Short.", "Warm." if n else "Odd."))
        for n in range(len(outcomes))
    ]
    return Match(
        task="t",
        first=A,
        second=B,
        judge=judge,
        judge_key=judge,
        protocol="rubric",
        balance=balance(outcomes, groups=[item.group for item in items]),
        signature=NOTHING,
        entries=tuple(
            Entry(item=item, first=(first, None), second=(second, None), outcome=outcome)
            for item, (first, second), outcome in zip(items, texts, outcomes, strict=True)
        ),
    )


def shown(store: Store, matches: Sequence[Match], each: int) -> list[tuple[str, str | None]]:
    found = examples(store, matches, each=each)
    return [(example.item.item_id, example.winner) for example in found]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (
            [
                PairVerdict(winner="a"),
                PairVerdict(winner="tie"),
                PairVerdict(winner="b"),
                PairVerdict(winner=None),
            ],
            [("0", "a"), ("2", "b")],
        ),
        (
            [
                PairVerdict(winner="a", margin=Fraction(1)),
                PairVerdict(winner="a", margin=Fraction(3)),
                PairVerdict(winner="b", margin=Fraction(-1, 2)),
                PairVerdict(winner="b", margin=Fraction(-4)),
            ],
            [("1", "a"), ("0", "a"), ("3", "b"), ("2", "b")],
        ),
        ([PairVerdict(winner="tie")] * 4, []),
    ],
)
def test_the_clearest_items_of_either_side_come_first(
    outcomes: list[PairVerdict], expected: list[tuple[str, str]]
) -> None:
    with Store.open("s.db") as store:
        assert shown(store, [match(outcomes, [("x", "y")] * 4)], 2) == expected


def test_more_judges_count_before_words_and_the_panel_not_at_all() -> None:
    texts = [("one two three four", "one two three five"), ("one", "two"), ("same words", "same")]
    one = match([PairVerdict(winner="a")] * 3, texts)
    other = match(
        [PairVerdict(winner="a"), PairVerdict(winner="tie"), PairVerdict(winner="tie")], texts, "k"
    )
    with Store.open("s.db") as store:
        assert shown(store, [one, other], 3) == [("0", "a"), ("1", "a"), ("2", "a")]


def test_gaps_are_means_over_the_items_with_both_ratings() -> None:
    texts = [("x", "y")] * 4
    found = match([PairVerdict(winner="a")] * 4, texts)
    ratings = {"x": (5, 4), "y": (1, 1)}
    with Store.open("s.db") as store:
        put_ratings(
            store,
            [
                Rating(
                    judge="j",
                    item_key=entry.item.key,
                    text_key=text_key(text),
                    aspect=aspect,
                    rating=None if (n, text, aspect) == (3, "y", 1) else ratings[text][aspect],
                    reason=None,
                    call_key="c",
                )
                for n, entry in enumerate(found.entries)
                for text in ("x", "y")
                for aspect in (0, 1)
            ],
        )
        listed = gaps(store, found, most=5)
    assert [(gap.preference, gap.n, gap.first, gap.second) for gap in listed] == [
        ("Short.", 4, 5.0, 1.0),
        ("Warm.", 2, 4.0, 1.0),
        ("Odd.", 1, 4.0, 1.0),
    ]
    assert listed[0].difference == 4.0

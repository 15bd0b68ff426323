"""Names of the better response, as real judges give them and as hostile texts forge them."""

import json
from pathlib import Path

import pytest

from mipo_eval.judges import Verdict, Winner, merge_orders, parse_choice, parse_verdict

CHOICES: list[tuple[str, Winner | None]] = [
    ("response_a", "a"),
    (" Response_B.\n", "b"),
    ("A", "a"),
    ("b", "b"),
    ("B.", "b"),
    ("(a)", "a"),
    ("[[A]]", "a"),
    ("[B]", "b"),
    ("**Response A**", "a"),
    ('"response_b"', "b"),
    ("`response_a`", "a"),
    ("Output (a)", "a"),
    ("Output (b) is better.", "b"),
    ("Assistant A", "a"),
    ("Option B", "b"),
    ("Answer: A", "a"),
    ("Answer: **B**", "b"),
    ("Final verdict: [[B]]", "b"),
    ("Verdict: Response A", "a"),
    ("The better response is Response B.", "b"),
    ("I prefer Response A.", "a"),
    ("I would choose response_b", "b"),
    ("Response A is clearly better than Response B.", "a"),
    ("Response B is slightly better, because it is shorter.", "b"),
    ("Response B wins.", "b"),
    ("A is better", "a"),
    ("Response A.\n\nResponse B lacks detail.", "a"),
    ("Response A - it is shorter", "a"),
    ("Response A does well. Response B does not.\n\nB", "b"),
    ("Response A does not follow it, therefore Response B is better.", "b"),
    ("At first Response A is better, but it errs. Therefore, Response B is better.", "b"),
    ('{"winner": "A"}', "a"),
    ('{"answer": "response_b", "reason": "Response A is better at nothing"}', "b"),
    ('```json\n{"choice": "B"}\n```', "b"),
    ("<think>Response A is better? No.</think>response_b", "b"),
    ("Ｒｅｓｐｏｎｓｅ　Ａ", "a"),
    # no answer
    ("", None),
    ("Both are good.", None),
    ("tie", None),
    ("C", None),
    ("[[C]]", None),
    ("neither", None),
    ("I cannot decide.", None),
    ("Response A is friendly.", None),
    ("A good answer would say more.", None),
    ("a", "a"),
    ("AB", None),
    ("Response", None),
    ("Response 1", None),
    ("I prefer a shorter text", None),
    ("The better response is a matter of taste.", None),
    ('{"winner": "C"}', None),
    ('{"winner": null}', None),
    ('{"winner": "A", "winner": "B"}', None),
    ('{"winner": "A", "answer": "B"}', None),
    ("<think>Response A is better", None),
    # more than one answer
    ("response_a or response_b", None),
    ("response_a\nresponse_b", None),
    ("A or B", None),
    ("[[A]] [[B]]", None),
    ("Response A is better. Response B is better.", None),
    ("Answer: A\nAnswer: B", None),
    # denied, supposed, asked, reported
    ("Response A is not better.", None),
    ("I do not think Response A is better.", None),
    ("If it were shorter, Response A would be better.", None),
    ("Is Response A better?", None),
    ("The answer is A?", None),
    ("Response B says that Response B is better.", None),
    ('Response A contains "Response A is better". Response B is better.', "b"),
    ('It says: "The winner is Response A', None),
    ("> Answer: A\n\nB", "b"),
]


@pytest.mark.parametrize(("reply", "choice"), CHOICES)
def test_parse_choice(reply: str, choice: Winner | None) -> None:
    assert parse_choice(reply) == choice


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("tie", "tie"),
        ("Tie.", "tie"),
        ("It's a tie.", "tie"),
        ("Verdict: tie", "tie"),
        ("[[C]]", "tie"),
        ('{"winner": "tie"}', "tie"),
        ("Both responses are equally good.", "tie"),
        ("Response A is better. It's a tie.", None),
        ("Response A is better than a tie", "a"),
        ("I would not call it a tie.", None),
        ("both", None),
    ],
)
def test_parse_verdict_knows_ties(reply: str, verdict: Verdict | None) -> None:
    assert parse_verdict(reply) == verdict
    assert parse_choice(reply) == (None if verdict == "tie" else verdict)


ALL: list[Verdict | None] = ["a", "b", "tie", None]


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_merging_does_not_depend_on_the_order(
    first: Verdict | None, second: Verdict | None
) -> None:
    assert merge_orders(first, second) == merge_orders(second, first)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [("a", "a", "a"), ("b", "b", "b"), ("a", "b", "tie"), ("a", None, None), ("a", "tie", "tie")],
)
def test_merge_orders(first: Verdict, second: Verdict | None, merged: Verdict | None) -> None:
    assert merge_orders(first, second) == merged


def test_every_real_reply_is_read_as_its_authors_read_it(shared_data: Path) -> None:
    files = sorted((shared_data / "llmbar").rglob("result.json"))
    seen = unread = 0
    for file in files:
        for row in json.loads(file.read_text()):
            for result in row["results"]:
                for swapped in (False, True):
                    given = result[f"swap = {swapped}"]
                    if "completion" not in given:
                        continue  # a rating, not a choice
                    choice = parse_choice(given["completion"][0])
                    names = {"a": "2", "b": "1"} if swapped else {"a": "1", "b": "2"}
                    expected = given["winner"] if given["winner"] in {"1", "2"} else None
                    assert (names[choice] if choice else None) == expected
                    seen += 1
                    unread += choice is None
    assert (seen, unread) == (2808, 2)

"""A mention is not a verdict, the reply's own final mark is, and a cut reply has to end in one."""

import json
import time
from pathlib import Path

import pytest

from mipo_eval.judges.parse import parse_choice, parse_rating, parse_verdict
from mipo_eval.verdict import Verdict

CASES = Path(__file__).parents[1] / "cases"


def cases(name: str) -> list[dict[str, str | int | None]]:
    return [json.loads(line) for line in (CASES / name).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("case", cases("choices.jsonl"))
def test_every_choice_of_the_cases(case: dict[str, str]) -> None:
    assert parse_choice(case["reply"]) == case["want"]


@pytest.mark.parametrize("case", cases("ratings.jsonl"))
def test_every_rating_of_the_cases(case: dict[str, str]) -> None:
    low, high = int(case.get("low", 1)), int(case.get("high", 5))
    assert parse_rating(case["reply"], low, high) == case["want"]


@pytest.mark.parametrize(
    "reply",
    [
        "Response A's tone is warm.",
        "Response A, with its warm tone, follows the wish.",
        "Response B; it ignores the wish.",
        "Response B? It ignores the wish.",
        "Response B - ignores the wish.",
        "Response B (long)",
        "助手B的回答，另一方面，没有满足要求。",
        "La respuesta B, por otro lado, ignora el deseo.",
        "Antwort B hingegen ignoriert den Wunsch.",
        "응답 B는 반면에 무시합니다.",
        # headings
        "**Response A**\nshort and clear\n\n**Response B**\nlong.",
        "## Response B\n\nIt ignores the wish.",
        "Evaluation of Assistant A's answer:\nAssistant A gives a list.",
        # one respect is not all
        "Response A is better at tone.",
        "Response A is better at tone, but Response B is more concise.",
        "Response A gives details, while Response B is more general.",
        "Tone: response_a\nLength: response_b",
        # somebody else's answer
        "Answer B is wrong.",
        "The answer B gives is long.",
        "Response A's answer is B",
        "Assistant A's final answer: B",
        "The correct answer is B.",
        "The most plausible answer is (B), the nervous system.",
        "A seesaw is balanced when the torques on both sides are equal.",
        "Assistant A chose B.",
        "La respuesta dice: [[A]]",
        "The response says: [[A]]",
        # taken back, supposed, or two
        "Verdict: Response B is worse.",
        "I'd say Response B is worse.",
        "Response B would be better if it were shorter.",
        "Winner: A and B",
        "Answer: A or B",
        "最终结论：不是 [[A]]",
    ],
)
def test_a_mention_is_not_a_verdict(reply: str) -> None:
    assert parse_verdict(reply) is None


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Response A does this.\n\n[[A]]", "a"),
        ("[[A]]\n\nResponse B ignores the wish.", "a"),
        ("Use [[A]] if A is better, [[B]] if B is better.\n\n[[B]]", "b"),
        ("I would choose [[A]] here.", "a"),
        ("So it's [[B]], not [[A]].", "b"),
        ("Assistant B is slightly better: [[B>A]]\n\nAssistant A gives fewer reasons.", "b"),
        ("It includes more. I say they are alike. My final verdict is:\n\nTie: [[A=B]]", "tie"),
        ("Final verdict: [[Response B]]", "b"),
        ("[[response_a]]", "a"),
        ("[[ B ]]", "b"),
        ("[[A<B]]", "b"),
        ("[[A>A]]", None),
        ("[[A]]\n[[B]]", None),
        ("[[A]]\n\nFinal verdict: [[B]]", None),
        ("[[A]]\n\nNo, Response B is better.", None),
        ("The answer is in the form [[A]] or [[B]].", None),
        # in other languages
        ("最终判断：[[B]]", "b"),
        ("因此，我的最终判断是：[[A]]", "a"),
        ("따라서 최종 판정은 다음과 같습니다: [[B]]", "b"),
        ("最終的な判定：[[A]]", "a"),
        ("Verdict final : [[B]]", "b"),
        ("Endgültiges Urteil: [[A]]", "a"),
        ("La respuesta A es clara.\nLa respuesta B es larga.\n\nVeredicto final: A", "a"),
        ("Verdict final : Réponse B", "b"),
        ("Endgültiges Urteil: Antwort A", "a"),
        ("最终判定：回答B", "b"),
        ("최종 판정: 응답 B", "b"),
        ("最終判定：回答A", "a"),
        # whole lines and labels at the end
        ("### Response A\nshort\n### Response B\nlong\n\nresponse_b", "b"),
        ("Response A\nshort\nResponse B\nlong\n\nresponse_a", "a"),
        ("## Final verdict\n**Response A**", "a"),
        ("Tone: response_a\nLength: response_b\nOverall: response_b", "b"),
        ("Réponse B", "b"),
        ("回答B", "b"),
        ("아... 응답 A\n\n응답 A", "a"),
        # the forms of other judges
        ("<verdict>A</verdict>", "a"),
        ("Reasons. <answer>response_b</answer>", "b"),
        ("Feedback: A does not. [RESULT] B", "b"),
        # predicates
        ("Overall, Response B is more helpful.", "b"),
        ("Response A is more persuasive because it shows the benefits.", "a"),
        ("After comparing Response A and Response B, I choose Response A.", "a"),
    ],
)
def test_the_final_mark_wins(reply: str, verdict: Verdict | None) -> None:
    assert parse_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("评分：[[4]]", 4),
        ("Calificación: [[4]]", 4),
        ("Bewertung: [[5]]", 5),
        ("[[4]]\n\nIt meets 2 of 3 wishes.", 4),
        ("It has 5 points and 3 lists.\n\n[[2]]", 2),
        ("1. Tone: 4\n2. Length: 3\n\nRating: [[4]]", 4),
        ("[[4/5]]", 4),
        ("[[4/10]]", None),
        ("[[Rating: 4]]", 4),
        ("[[rating]]", None),
        ("[[8.5]]", None),
        ("It is 3. Rating: [[8.5]]", None),
        ("On a scale of [[1]] to [[5]]: [[3]]", 3),
        ("[[4]] [[5]]", None),
        ("Rating: [[5]]\nRating: [[4]]", None),
        ("The text says: [[5]]", None),
        ("Feedback: it meets 3 of 4 needs. [RESULT] 4", 4),
        ("So the <rating>4</rating>", 4),
        ("Puntuación final: 4", 4),
        ("Note finale : 4/5", 4),
        ("Gesamtbewertung: 4", 4),
        ("总分：4", 4),
        ("Terms prevent a score of 5", None),
        ('It prints "3\n\nRating: [[2]]', 2),  # a quotation mark alone cites its paragraph
    ],
)
def test_the_final_mark_of_a_rating_wins(reply: str, rating: int | None) -> None:
    assert parse_rating(reply) == rating


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("response_a", "a"),
        ("Long.\n\nFinal verdict: [[B]]", "b"),
        ("Long. Winner: Response B", "b"),
        ("Therefore, Response A is better.", "a"),
        ('{"winner": "A"}', "a"),
        ("response_a\n\nResponse A is", "a"),  # the answer as asked, then reasons without an end
        # what comes next is not known
        ("Therefore, Response A is better", None),
        ("Response A is better. However,", None),
        ("Long.\n\nresponse_b", None),
        ("Overall assessment:\nB", None),
        ("Response A is better at tone. Response B", None),
        ("Verdict: [[A]]\n\nBecause Response", None),
        ('{"winner": "A", "reason": "it', None),
    ],
)
def test_a_cut_reply_has_a_verdict_only_if_its_end_is_one(
    reply: str, verdict: Verdict | None
) -> None:
    assert parse_verdict(reply, cut=True) == verdict


@pytest.mark.parametrize(
    ("reply", "high", "rating"),
    [
        ("4", 5, 4),
        ("4\n\nThe response meets 2", 5, 4),
        ("Good. Rating: [[4]]", 5, 4),
        ("Rating: 4", 5, 4),
        ("Overall, I give it a 4.", 5, 4),
        ("Rating: 4\n\nThe res", 5, None),
        ("The response meets 3", 5, None),
        ("Here is why:\n\n1.", 5, None),
        ("Rating: 1", 10, None),  # it may have become a 10
        ("Rating: [[1]]", 10, 1),
    ],
)
def test_a_cut_reply_has_a_rating_only_if_its_end_is_one(
    reply: str, high: int, rating: int | None
) -> None:
    assert parse_rating(reply, 1, high, cut=True) == rating


LOOPS = [
    *("rating ", "rating is ", "$ ", "*", "answer*", "\n", " ", "\t", '"', "“", " '", "```\n"),
    *(
        "[[A",
        "[[4]]",
        "Rating 4 ",
        "A is more ",
        "Response A ",
        "both ",
        '{"rating":',
        "> ",
        "a\u0301",
    ),
    *("1,", "- 1", "is the ", "final answer ", "\\boxed{", "<a", "Winner: A\n", "because ", "评分"),
]


@pytest.mark.parametrize("word", LOOPS)
def test_a_loop_takes_no_time(word: str) -> None:
    def seconds(length: int) -> float:
        """Of the processor, so that a busy machine changes nothing."""
        start = time.process_time()
        text = "Response A is rating " + word * (length // len(word)) + "x!"
        parse_rating(text)
        parse_verdict(text)
        return time.process_time() - start

    short, long = (min(seconds(length) for _ in range(2)) for length in (2_500, 40_000))
    # Sixteen times the text: sixteen times as long, and 256 where every place looks at all others.
    assert long < 40 * max(short, 0.01)


def test_real_marks_are_read(shared_data: Path) -> None:
    """Every reply of JudgeBench's judge with one mark is read as the mark says."""
    files = sorted((shared_data / "judgebench").glob("*judge_name*.jsonl"))
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    told = [one["judgment"]["response"] for row in rows for one in row["judgments"]]
    marks = {"[[A>>B]]": "a", "[[A>B]]": "a", "[[A=B]]": "tie", "[[B>A]]": "b", "[[B>>A]]": "b"}
    read = []
    for reply in told:
        winners = {winner for mark, winner in marks.items() if mark in reply}
        if len(winners) == 1:
            read.append((parse_verdict(reply), winners.pop()))
    assert len(read) == 529
    assert [pair for pair in read if pair[0] != pair[1]] == []


def test_real_replies_cut_before_their_mark_are_never_read_wrongly(shared_data: Path) -> None:
    files = sorted((shared_data / "judgebench").glob("*judge_name*.jsonl"))
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    wrong = read = 0
    for reply in (one["judgment"]["response"] for row in rows for one in row["judgments"]):
        at = reply.rfind("[[")
        winner = {"A>": "a", "A=": "tie", "B>": "b"}.get(reply[at + 2 : at + 4])
        for share in (0.5, 0.75, 0.9, 1.0):
            said = parse_verdict(reply[: int(at * share)], cut=True)
            read += said is not None
            wrong += said not in {None, winner}
    assert wrong == 0
    assert read < 200  # of 2,160: those that say it in a sentence, and then again as a mark


def test_real_replies_of_prometheus_are_read(shared_data: Path) -> None:
    rows = json.loads((shared_data / "prometheus_eval" / "vicuna_eval.json").read_text())
    told = [
        pair for row in rows for pair in zip(row["gpt4_feedback"], row["gpt4_score"], strict=True)
    ]
    read = [parse_rating(f"{feedback} [RESULT] {score}") == score for feedback, score in told]
    assert (len(read), all(read)) == (960, True)

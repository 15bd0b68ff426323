"""Small data sets in the real schemas, from PRISM's code book and the published columns."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from mipo_eval.models.base import Request

TOPICS = ("bread", "taxes", "running", "sleep", "gardens", "chess", "trains", "paint")


def utterance(
    conversation: int, user: int, place: int, *, turn: int = 0, score: int, chosen: bool
) -> dict[str, Any]:
    """One row of PRISM's utterances.jsonl, with all of its columns."""
    topic = TOPICS[conversation % len(TOPICS)]
    return {
        "utterance_id": f"ut{conversation}{turn}{place}",
        "interaction_id": f"int{conversation}-{turn}",
        "conversation_id": f"c{conversation}",
        "user_id": f"user{user}",
        "turn": turn,
        "within_turn_id": place,
        "included_in_balanced_subset": True,
        "conversation_type": "values guided",
        "user_prompt": f"What should I know about {topic} number {conversation}, turn {turn}?",
        "model_response": f"Answer {place} of {conversation}-{turn} on {topic}.",
        "model_name": "command",
        "model_provider": "cohere",
        "score": score,
        "if_chosen": chosen,
    }


def prism_rows(conversations: int = 60, users: int = 20) -> Iterator[dict[str, Any]]:
    """Conversations of two turns: four responses in the first, two of one model in the second."""
    for number in range(conversations):
        for place, score in enumerate((40, 90, 15, 60)):
            yield utterance(number, number % users, place, score=score, chosen=score == 90)
        for place, score in enumerate((70, 30)):
            yield utterance(number, number % users, place, turn=1, score=score, chosen=score == 70)


def ca_row(conversation: int, user: int, **changes: Any) -> dict[str, Any]:
    """One row of Community Alignment, as CSV gives it: text, empty for null."""
    topic = TOPICS[conversation % len(TOPICS)]
    row: dict[str, Any] = {
        "conversation_id": str(conversation),
        "annotator_id": str(user),
        "assigned_lang": "en",
        "is_pregenerated_first_prompt": "False",
        "annotator_age": "35-45",
        "annotator_country": "united states",
    }
    for turn in ("first", "second", "third", "fourth"):
        asked = turn in {"first", "second"}
        row[f"{turn}_turn_prompt"] = f"Tell me about {topic} {conversation} {turn}" if asked else ""
        for letter in "abcd":
            said = f"{letter} on {topic} {conversation} {turn}<|end_of_text|>"
            row[f"{turn}_turn_response_{letter}"] = said if asked else ""
        row[f"{turn}_turn_preferred_response"] = "response_c" if asked else ""
        row[f"{turn}_turn_feedback"] = ""
    return row | changes


def mb_row(number: int, **changes: Any) -> dict[str, Any]:
    """One row of Multifaceted-Bench."""
    topic = TOPICS[number % len(TOPICS)]
    rubric = [
        {
            "criteria": f"Is the answer {quality} about {topic}?",
            "score_descriptions": {str(score): f"{quality} {score}" for score in range(1, 6)},
        }
        for quality in ("vivid", "expert", "complete", "gentle")
    ]
    return {
        "source": "own",
        "system": f"You are a patient teacher of {topic} who tells stories.",
        "prompt": f"Explain {topic} to me, case {number}.",
        "reference_answer": f"Once there was {topic}.",
        "rubric": rubric,
    } | changes


def preferences(request: Request) -> str:
    """A good reply of an extractor."""
    where = len(request.messages[0].content) % 3
    wishes = {"directness": "Come to the point.", "examples": "Give an example. One is enough."}
    return json.dumps({**wishes, f"length_{where}": "Keep it short."})


def statements(_request: Request) -> str:
    """A good reply about an instruction of Multifaceted-Bench."""
    return json.dumps(
        {
            "style": "I enjoy being told a story.",
            "background_knowledge": "I know the basics already.",
            "informativeness": "I'd like the reasons explained.",
            "harmlessness": "Please be gentle with me.",
        }
    )


def failing_first(good: Callable[[Request], str], bad: str, times: int) -> Callable[[Request], str]:
    """A model whose first replies to each question are bad, until it was corrected often enough."""

    def reply(request: Request) -> str:
        corrections = (len(request.messages) - 1) // 2
        return bad if corrections < times else good(request)

    return reply

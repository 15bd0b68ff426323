"""PRISM: scored responses of several models to the messages of people from many countries.

`utterances.jsonl` is the long format, a row per response, up to four in the opening turn and two of
the chosen model in later ones:
{"utterance_id": "ut1", "interaction_id": "int0", "conversation_id": "c0", "user_id": "user0",
 "turn": 0, "user_prompt": "...", "model_response": "...", "score": 92, "if_chosen": true}
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from pydantic import Field

from mipo_eval.records import Text
from mipo_eval.tasks.datasets import (
    CUT_OFF,
    Columns,
    Dropped,
    Earlier,
    RawSet,
    Row,
    Turns,
    UserChoice,
    checked,
    parse_preferences,
    then,
)


class _Utterance(Columns):
    utterance_id: str
    interaction_id: str
    conversation_id: str
    user_id: Text
    turn: int = Field(ge=0)
    user_prompt: str
    model_response: str
    score: int
    if_chosen: bool


def prism_choices(
    rows: Iterable[Row], where: str, _seed: int = 0, turns: Turns = "first"
) -> Iterator[UserChoice | Dropped]:
    """Yield the choices of each conversation's turns, in the order of the file.

    Raises:
        DataError: a column is missing or of another type.
    """
    conversations: defaultdict[str, defaultdict[int, list[_Utterance]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for _, utterance in checked(_Utterance, rows, where, "of PRISM's utterances.jsonl"):
        conversations[utterance.conversation_id][utterance.turn].append(utterance)
    for conversation in conversations.values():
        earlier: Earlier = ()
        for turn in sorted(conversation)[: 1 if turns == "first" else None]:
            utterances = conversation[turn]
            yield _choice(utterances, earlier)
            chosen = _chosen(_said(utterances))
            answer = chosen.model_response if chosen else ""
            earlier = then(earlier, utterances[0].user_prompt.strip(), answer)


def _said(utterances: list[_Utterance]) -> list[_Utterance]:
    # The code book: an empty response is stored as these two words.
    return [u for u in utterances if u.model_response.strip() not in {"", "EMPTY STRING"}]


def _chosen(said: list[_Utterance]) -> _Utterance | None:
    return next((u for u in said if u.if_chosen), None)


def _choice(utterances: list[_Utterance], earlier: Earlier) -> UserChoice | Dropped:
    """Return the chosen response and that with the lowest score: the clearest preference."""
    if not utterances[0].user_prompt.strip():
        return Dropped("no prompt")
    if earlier is None:
        return Dropped(CUT_OFF)
    said = _said(utterances)
    chosen = _chosen(said)
    if chosen is None:
        return Dropped("no preferred response")
    rejected = min(said, key=lambda u: (u.score, u.utterance_id))
    if rejected.score >= chosen.score:
        return Dropped("no response has a lower score")
    if rejected.model_response.strip() == chosen.model_response.strip():
        return Dropped("all responses are the same")
    return UserChoice(
        data_set="prism",
        source_id=f"{chosen.conversation_id}-{chosen.turn}",
        user_id=chosen.user_id,
        prompt=chosen.user_prompt.strip(),
        chosen=chosen.model_response.strip(),
        rejected=rejected.model_response.strip(),
        meta={
            "turn": chosen.turn,
            "chosen_score": chosen.score,
            "rejected_score": rejected.score,
        },
        earlier=earlier,
    )


PRISM = RawSet(
    hub="HannahRoseKirk/prism-alignment",
    config="utterances",
    files={"train": ("utterances.jsonl", "utterances*.parquet")},
    candidates=prism_choices,
    parse=parse_preferences,
    paper_sizes=(7_294, 194),
)

"""Wordings: where the context stands, what default prompting leaves out, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Message
from mipo_eval.records import Item, PastTurn
from mipo_eval.tasks.prompt import USUAL, conversation
from mipo_eval.tasks.suites import SUITES, find_suite, with_query
from mipo_eval.tasks.wordings import SHIPPED, Asks, read_wording

TEA = Item(item_id="t", prompt="How is {tea} made?", context="I am nine, {name}.")


def turns(given: str, prompting: Any = "personalized", item: Item = TEA) -> list[tuple[str, str]]:
    wording = read_wording(given, "query")
    return [(m.role, m.content) for m in conversation(item, prompting, "Be kind.", wording)]


def own(text: str) -> str:
    Path("own.txt").write_text(text)
    return "own.txt"


def test_the_context_stands_after_before_or_in_the_system_turn() -> None:
    system = ("system", "Be kind.")
    assert turns("short") == [
        system,
        (
            "user",
            f"{TEA.prompt}\n\nPlease answer in two or three sentences, and take into account what "
            f"I want:\n{TEA.context}",
        ),
    ]
    assert turns("context-first") == [system, ("user", f"{TEA.context}\n\n{TEA.prompt}")]
    given = own("[system]\nHelp well.\n\nOf the user: {context}\n[user]\n{prompt}\n")
    told = f"Be kind.\n\nHelp well.\n\nOf the user: {TEA.context}"
    assert turns(given) == [("system", told), ("user", TEA.prompt)]


def test_default_prompting_leaves_out_what_shows_a_context() -> None:
    system = ("system", "Be kind.")
    plain = [system, ("user", TEA.prompt)]
    assert turns("context-first", "default") == plain
    assert turns(own("My wish: {context}\n\n{prompt}"), "default") == plain
    assert turns(own("[system]\n{context}\n[user]\n{prompt}"), "default") == plain
    assert turns(own("[user]\n{prompt} {context}\n[default]\n{prompt}"), "default") == plain
    assert turns("context-first", item=TEA.model_copy(update={"context": " "})) == plain
    asked = "Please answer in two or three sentences."
    assert turns("short", "default") == [system, ("user", f"{TEA.prompt}\n\n{asked}")]


def test_the_wordings_system_turn_stands_before_the_items_own() -> None:
    item = TEA.model_copy(update={"messages": (PastTurn(role="system", content="Speak Latin."),)})
    wording = read_wording(own("[system]\n{context}\n[user]\n{prompt}"), "query")
    told = Message(role="system", content=f"Be kind.\n\n{TEA.context}\n\nSpeak Latin.")
    assert conversation(item, "personalized", "Be kind.", wording)[0] == told


def test_an_item_is_asked_in_its_language_where_the_wording_has_it() -> None:
    given = own(
        "[user]\n{prompt}\n\nI want: {context}\n[user fr]\n{prompt}\n\nJe veux : {context}\n"
        "[system pt]\nAjude: {context}\n[user pt]\n{prompt}"
    )
    items = {
        code: TEA.model_copy(update={"meta": {"language": code}}) for code in ("FR", "pt", "it")
    }
    kind = ("system", "Be kind.")
    french = ("user", f"{TEA.prompt}\n\nJe veux : {TEA.context}")
    english = ("user", f"{TEA.prompt}\n\nI want: {TEA.context}")
    assert turns(given, item=items["FR"]) == [kind, french]
    assert turns(given, item=items["it"]) == turns(given) == [kind, english]
    told = ("system", f"Be kind.\n\nAjude: {TEA.context}")
    assert turns(given, item=items["pt"]) == [told, ("user", TEA.prompt)]
    assert turns(given, "default", items["FR"]) == [kind, ("user", TEA.prompt)]
    wording = read_wording(given, "query")
    assert wording.has_system
    plain = read_wording(own("{prompt}\n\nI want: {context}"), "query")
    assert wording.key != plain.key


def test_a_wording_is_its_text() -> None:
    """The digest of the usual one is that of runs made before there were others."""
    assert USUAL.key == "25db1d4edfdc8b085c4c18d5cc8ad127"
    first = read_wording(own("{context}\n\n{prompt}\n"), "query")
    assert first.key == read_wording("context-first", "query").key
    turned = own("[system]\n{context}\n[user]\n{prompt}")
    keys = {read_wording(name, asks).key for asks, names in SHIPPED.items() for name in names}
    assert len(keys | {read_wording(turned, "query").key}) == 8


@pytest.mark.parametrize(
    ("asks", "text", "message"),
    [
        ("query", "{prompt}", r"it does not contain \{context\}"),
        ("query", "{context}", r"it does not contain \{prompt\}"),
        ("query", "{context} {prompt}", r"without the context does not contain \{prompt\}"),
        (
            "query",
            "{context}\n\n{prompt} {name}",
            r"\{name\} is not a slot here; the slots are \{context\}",
        ),
        ("query", "{context}\n\n{prompt} {", "write {{ for a brace"),
        ("query", "Hi\n[user]\n{context}\n\n{prompt}", r"it needs \[user\], each part once"),
        ("query", "[system]\n{context}", r"it needs \[user\]"),
        (
            "query",
            "[user]\n{context}\n\n{prompt}\n[system fr]\n{context}",
            r"its own \[user CODE\]",
        ),
        ("query", "[user fr]\n{context}\n\n{prompt}", r"it needs \[user\], each part once"),
        (
            "query",
            "[user]\n{context}\n\n{prompt}\n[user fr]\n{prompt}",
            r"does not contain \{context\}",
        ),
        ("choice", "[user]\n{prompt}\n[user fr]\n{prompt}", "asked in one language"),
        (
            "choice",
            "{prompt} {context}",
            r"\{context\} is not a slot here; the slots are \{prompt\}",
        ),
        ("number", "{prompt}", "worked examples fix the form of a question: turns, message"),
    ],
)
def test_a_file_that_is_no_wording(asks: Asks, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_wording(own(text), asks)


def test_a_wording_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"--query none: use one of short, context-first, notes"):
        read_wording("none", "query")


def test_suites_are_asked_as_the_paper_asks_them() -> None:
    asked = {task.name: task.query for task in SUITES["personalization"].tasks}
    assert asked == {"ca": "short", "prism": "short", "mb": "context-first"}
    assert SUITES["mb"].max_tokens >= 1024  # its answers have 290 to 370 words
    assert {task.query for task in SUITES["everyday"].tasks} == {"notes"}
    for name in ("mcq", "mcq_letters", "arc_easy", "mmlu"):
        assert {task.query for task in SUITES[name].tasks} == {"reasoned"}
    assert {task.query for task in SUITES["math"].tasks} == {"turns"}


def test_a_name_changes_the_tasks_it_is_for() -> None:
    asked = {one.name: one.query for one in with_query(SUITES["verifiable"], "letter").tasks}
    assert (asked["mmlu"], asked["gsm8k"]) == ("letter", "turns")
    assert with_query(SUITES["ca"], None) == SUITES["ca"]
    mixed = with_query(SUITES["verifiable"], own("{prompt}\nAnswer:"))
    assert {one.query for one in mixed.tasks} == {"turns", "own.txt"}


@pytest.mark.parametrize(
    ("suite", "given", "message"),
    [
        ("mcq", "short", "suite mcq knows reasoned, letter"),
        ("gsm8k", "letter", "suite gsm8k knows turns, message"),
        ("gsm8k", "own.txt", "suite gsm8k knows turns, message"),
        ("mcq_texts", "letter", "suite mcq_texts is asked in one way only"),
        ("ca", "gone.txt", "use one of short, context-first, notes, or a file"),
    ],
)
def test_a_wording_that_does_not_fit(suite: str, given: str, message: str) -> None:
    own("{prompt}")
    with pytest.raises(ConfigError, match=message):
        with_query(find_suite(suite), given)


def test_what_was_asked_so_before_keeps_its_key() -> None:
    """Letters alone, and worked examples as turns, were asked before a wording had a name."""
    assert SUITES["gsm8k"].wording_key is None
    assert with_query(SUITES["arc_easy"], "letter").wording_key is None
    assert SUITES["ca"].wording_key == USUAL.key
    said = {SUITES[name].wording_key for name in ("arc_easy", "mb", "verifiable", "mcq_letters")}
    assert None not in said
    letters = with_query(SUITES["mcq_letters"], "letter").wording_key
    assert letters not in {None, SUITES["mcq_letters"].wording_key}
    assert SUITES["mcq_texts"].wording_key is None

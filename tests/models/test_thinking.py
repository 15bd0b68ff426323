"""Replies taken apart: which marks count, which are only spoken of, and what was cut."""

import pytest

from mipo_eval.models.thinking import Parts, continued, marked, response_of, take_apart

_START = "<|start|>assistant<|channel|>"


@pytest.mark.parametrize(
    ("reply", "response", "thinking"),
    [
        # Between marks, at the beginning.
        ("<think>7 or 8?</think>\n\nEight.", "Eight.", "7 or 8?"),
        ("\n<think>\nhm\n</think>\n\nYes.\n", "Yes.", "hm"),
        ("<THINK>hm</THINK>Yes.", "Yes.", "hm"),
        ("<thinking>hm</thinking>Yes.", "Yes.", "hm"),
        ("<reasoning>\nhm\n</reasoning>\n<answer>\nYes.\n</answer>\n", "Yes.", "hm"),
        ("<thought>hm</thought>Yes.", "Yes.", "hm"),
        ("[THINK]hm[/THINK]Yes.", "Yes.", "hm"),
        ("<seed:think>hm</seed:think>Yes.", "Yes.", "hm"),
        ("\u25c1think\u25b7hm\u25c1/think\u25b7Yes.", "Yes.", "hm"),
        ("<|channel>thought\nhm<channel|>Yes.", "Yes.", "hm"),
        ("<|inner_prefix|>hm<|inner_suffix|>Yes.", "Yes.", "hm"),
        (
            "<|begin_of_thought|>hm<|end_of_thought|>\n\n<|begin_of_solution|>Yes.<|end_of_solution|>",
            "Yes.",
            "hm",
        ),
        (
            "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
            "Yes.",
            "hm",
        ),
        ("Here is my thought process: hm\n\nHere is my response: Yes.", "Yes.", "hm"),
        ("Here are my reasoning steps:\nhm\n[BEGIN FINAL RESPONSE]\nYes.", "Yes.", "hm"),
        ("<think>one</think>\n<think>two</think>Yes.", "Yes.", "one\n\ntwo"),
        ("<think>hm</think>\n</think>\nYes.", "Yes.", "hm"),
        # An empty thinking is none.
        ("<think>\n\n</think>\n\nYes.", "Yes.", None),
        # gpt-oss, with and without its control tokens.
        (
            f"<|channel|>analysis<|message|>hm<|end|>{_START}final<|message|>Yes.<|return|>",
            "Yes.",
            "hm",
        ),
        (
            f"{_START}analysis<|message|>a<|end|>{_START}commentary to=x<|message|>b<|end|>"
            f"{_START}final <|constrain|>json<|message|>{{}}",
            "{}",
            "a\n\nb",
        ),
        ("<|channel|>final<|message|>Yes.", "Yes.", None),
        ("analysisWe need 18.assistantfinalIt is 18.", "It is 18.", "We need 18."),
        (
            "analysis**Hm**assistantcommentaryso.assistantfinalYes.",
            "Yes.",
            "**Hm**assistantcommentaryso.",
        ),
        # The opening mark was in the prompt.
        (
            "It is 21 in my first draft.</think>She earns 18.",
            "She earns 18.",
            "It is 21 in my first draft.",
        ),
        ("First, hm.\n</think>\n\nYes.", "Yes.", "First, hm."),
        ("First, hm.[/THINK]Yes.", "Yes.", "First, hm."),
        ("Say yes.assistantfinalYes.", "Yes.", "Say yes."),
        ("So use `</think>` after it.\n</think>\n\nYes.", "Yes.", "So use `</think>` after it."),
        # Nothing was answered.
        ("<think>hm</think>", "", "hm"),
    ],
)
def test_thinking_is_taken_off(reply: str, response: str, thinking: str | None) -> None:
    assert take_apart(reply) == Parts(response, thinking)
    assert response_of(reply) == response


@pytest.mark.parametrize(
    ("reply", "thinking"),
    [
        ("<think>7 or", "7 or"),
        ("<think>", None),
        ("[THINK]hm", "hm"),
        ("<|channel|>analysis<|message|>hm", "hm"),
        (f"<|channel|>analysis<|message|>a<|end|>{_START}commentary<|message|>b", "a\n\nb"),
        ("analysisWe need to", "We need to"),
        ("<think>a</think>\n<think>b", "a\n\nb"),
        ("<think>The user quotes `</think>` and", "The user quotes `</think>` and"),
    ],
)
def test_a_reply_that_was_cut_inside_its_thinking_has_no_response(
    reply: str, thinking: str | None
) -> None:
    assert take_apart(reply) == Parts(None, thinking)
    assert response_of(reply) == ""


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Eight.",
        "  Eight.\n",
        "The </think> tag ends the thinking.",
        "Close it with </think>.",
        "It begins with <think> and ends with </think>, always.",
        "Models write `</think>` first.",
        'Split at "</think>" and keep the rest.',
        "Like this:\n\n```\n<think>\nhm\n</think>\nYes.\n```\n\nThat is all.",
        "Like this:\n\n```\nhm\n</think>\nYes.\n```\n\nThat is all.",
        "A reply looks like this:\n<think>\nhm\n</think>\nYes.",
        "<think> is a tag that models write.",
        "<think> and </think> are tags that models write.",
        "`<think>` opens it.",
        "Okay. <think>",
        "analysis of the assistantfinal mark",
        "analysis: the data show 18",
        "Analysis of the data",
        "final answer: 18",
        "The channel <|channel|>final<|message|> holds the answer.",
        "Here is my response: yes.",
        "I think so. I have been thinking.",
    ],
)
def test_a_text_that_only_speaks_of_marks_is_left_alone(reply: str) -> None:
    assert take_apart(reply) == Parts(reply, None)


def test_a_mention_inside_the_thinking_does_not_end_it() -> None:
    reply = "<think>They ask what </think> means.\nEasy.</think>\nIt ends a thinking."
    assert take_apart(reply).response == "It ends a thinking."
    only = "<think>so I write </think> yes"  # carelessly written, and still the only end
    assert take_apart(only) == Parts("yes", "so I write")


def test_a_server_that_gives_the_thinking_apart() -> None:
    assert take_apart("Yes.", apart=" hm\n") == Parts("Yes.", "hm")
    assert take_apart("", apart="hm") == Parts(None, "hm")
    assert take_apart("Yes.", apart="") == Parts("Yes.", None)
    assert take_apart("<think>b</think>Yes.", apart="a") == Parts("Yes.", "a\n\nb")
    assert take_apart("The tag is\n</think>\n", apart="hm").response == "The tag is\n</think>\n"


@pytest.mark.parametrize(
    ("text", "apart", "finish", "cut"),
    [
        ("", "hm", "stop", True),
        ("", None, "length", True),
        (" \n", None, "length", True),
        ("", None, "stop", False),
        ("4", "hm", "length", False),
    ],
)
def test_a_server_that_gives_no_text(text: str, apart: str | None, finish: str, cut: bool) -> None:
    said = marked(text, apart=apart, finish=finish)
    assert (take_apart(said).response is None) == cut
    assert cut or said == text


@pytest.mark.parametrize(
    ("prompt", "reply", "whole"),
    [
        ("<|im_start|>assistant\n<think>\n", "hm", "<think>\nhm"),
        ("<|im_start|>assistant\n<think>\n", "<think>hm", "<think>hm"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "Yes.", "Yes."),
        ("<|im_start|>assistant\n", "Yes.", "Yes."),
        (f"{_START}analysis<|message|>", "hm", "<|channel|>analysis<|message|>hm"),
        ("What is <think>?", "A tag.", "A tag."),
    ],
)
def test_a_thinking_that_the_prompt_began(prompt: str, reply: str, whole: str) -> None:
    assert continued(prompt, reply) == whole


@pytest.mark.parametrize(
    "text", ["`</think>` ", "the </think> tag ", "see <think> and </think> now ", "assistantfinal "]
)
def test_many_mentions_are_read_in_one_pass(text: str) -> None:
    """Looking back from each of them took minutes."""
    assert take_apart(text * 20_000) == Parts(text * 20_000, None)


def test_many_thoughts_are_read_in_one_pass() -> None:
    made = take_apart("<think>a</think>" * 20_000 + "b")
    assert made.response == "b"

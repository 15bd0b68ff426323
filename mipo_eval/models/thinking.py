r"""A reply taken apart: what a model thought, and what it answered. The one place that does it.

Models that reason write their thinking first, between marks of their family:

    <think>...</think>answer                      Qwen3, DeepSeek, GLM, and most others
    [THINK]...[/THINK]answer                      Magistral; more pairs are in `_PAIRS`
    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>answer
    analysis...assistantfinalanswer               gpt-oss, with and without its control tokens

The opening mark may stand in the prompt, so that a reply holds the closing one alone. Where a
reply ends before its thinking does there is no response: that is a state with a reason (`CUT`).

A mark counts where a model puts it, not where a text speaks of it. So an opening mark counts at
the beginning of a reply only. A closing mark without one counts unless it is quoted, is code,
closes a pair that stands in the text, or is a word of a sentence ("the </think> tag ends it").
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

CUT = "cut inside the thinking"
"""Why there is no response where a reply ended before its thinking did."""


class Parts(NamedTuple):
    """A reply's parts."""

    response: str | None
    """None where the reply was cut inside its thinking."""
    thinking: str | None
    """None where there is none, or an empty one."""


class _Pair(NamedTuple):
    """The marks around a thinking."""

    opening: str
    closing: str
    alone: bool = True
    """Whether the closing mark can be known by itself: it is no phrase of ordinary texts."""


_PAIRS = (
    *(_Pair(f"<{tag}>", f"</{tag}>") for tag in ("think", "thinking", "reasoning", "thought")),
    _Pair("<seed:think>", "</seed:think>"),
    _Pair("<longcat_think>", "</longcat_think>"),
    _Pair("<scratchpad>", "</scratchpad>", alone=False),
    _Pair("[THINK]", "[/THINK]"),  # Magistral
    _Pair("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    _Pair("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere Command
    _Pair("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    _Pair("<|channel>thought", "<channel|>"),  # Gemma 4
    _Pair("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi
    _Pair("Here is my thought process:", "Here is my response:", alone=False),  # Granite 3
    _Pair("Here's my thought process:", "Here's my response:", alone=False),
    _Pair("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),  # Apriel
)
_FRAMES = (
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<answer>", "</answer>"),
    ("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),
    ("", "[END FINAL RESPONSE]"),
)
"""What some models put around the answer behind their thinking."""
_ANALYSIS = _Pair(
    "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"
)
"""What is around a thinking of gpt-oss that is all it thinks; more may follow, see `_channels`."""
_CONTROLS = (
    {mark for pair in _PAIRS for mark in (pair.opening, pair.closing)}
    | {mark for frame in _FRAMES for mark in frame if mark}
    | {"<|channel>", "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}
)
"""Marks that some tokenizers count among the control tokens, which texts are rid of."""


def _any_of(marks: Iterable[str]) -> str:
    return "|".join(map(re.escape, marks))


_OF_OPENING = {pair.opening.casefold(): pair for pair in _PAIRS}
_OF_CLOSING = {pair.closing.casefold(): pair for pair in _PAIRS}
_OPENINGS = re.compile(rf"\s*(?P<mark>{_any_of(p.opening for p in _PAIRS)})", re.IGNORECASE)
_CLOSING = {pair: re.compile(re.escape(pair.closing), re.IGNORECASE) for pair in _PAIRS}
_ALONE = re.compile(
    _any_of(mark for p in _PAIRS if p.alone for mark in (p.opening, p.closing)), re.IGNORECASE
)
_REPEATED = re.compile(rf"\s*(?:(?:{_any_of(p.closing for p in _PAIRS if p.alone)})\s*)+", re.I)

_HEADER = re.compile(
    r"(?:(?:<\|end\|>|<\|return\|>|<\|call\|>)\s*)?(?:<\|start\|>\s*assistant[^<]{0,80})?"
    r"<\|channel\|>\s*(?P<channel>\w{1,40})(?:(?!<\|message\|>)[\s\S]){0,200}<\|message\|>"
)
_MESSAGE_END = re.compile(r"(?:<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>[\s\S]*)\s*\Z")
_BARE_START = re.compile(r"\s*(?:analysis|commentary)(?=[^\s:.,;!?)'\-])")
_BARE_FINAL = "assistantfinal"
_BARE_ANSWER = re.compile(r"\s*final(?=[A-Z])")
"""A reply without any thinking, of whose header only the channel's name is left."""

_QUOTES = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb\u201e\u300c\u300d"
_TALKED_ABOUT = re.compile(
    r"(?:[^\S\n]*(?:\.\.\.|\u2026))?[^\S\n]+"
    r"(?:is|are|was|and|or|tags?|tokens?|marks?|markers?|blocks?|means|opens?|starts?|begins?)\b"
)
_PROMPT_END = 16
"""Tokens; an opening mark has fewer, whatever the tokenizer."""
_SENTENCE_BEFORE = re.compile(r"[\w,;][^\S\n]+\Z")
_SENTENCE_AFTER = re.compile(r"\s*\Z|[^\S\n]+[a-z]|[.,:;!?)]")


def take_apart(reply: str, *, apart: str | None = None) -> Parts:
    r"""Return a reply's response and thinking; a reply without thinking is its own response.

    Args:
        reply: as it came; `continued` where the prompt is known.
        apart: the thinking, where a server gives it beside the reply.

    Where a server gives no text at all, see `marked`.

    Example:
        >>> take_apart("<think>7 or 8?</think>\n\nEight.")
        Parts(response='Eight.', thinking='7 or 8?')
        >>> take_apart("<think>7 or")
        Parts(response=None, thinking='7 or')
    """
    if apart and apart.strip():
        # A mark later in the text is the text's own: the server has taken the thinking off.
        rest = take_apart(reply) if _opening(reply) is not None else Parts(reply, None)
        thoughts = [apart.strip(), *filter(None, [rest.thinking])]
        said = rest.response if rest.response and rest.response.strip() else None
        return Parts(said, "\n\n".join(thoughts))
    return _channels(reply) or _channel_names(reply) or _between_marks(reply) or Parts(reply, None)


def marked(text: str, *, apart: str | None, finish: str | None) -> str:
    """Return a server's text, or an opening mark where it was cut before it had any.

    A text that is empty although a thinking stands beside it, or although all the tokens that
    were allowed have been written, was cut inside its thinking.
    """
    return "<think>" if not text.strip() and (apart or finish == "length") else text


def response_of(reply: str) -> str:
    """Return a reply's response as text, empty where the reply was cut inside its thinking."""
    return take_apart(reply).response or ""


def _opened(prompt: str) -> _Pair | None:
    """Return the pair whose opening mark a prompt ends with."""
    end = prompt.rstrip()
    known = (pair for pair in (_ANALYSIS, *_PAIRS) if pair.alone)
    return next((pair for pair in known if end.endswith(pair.opening)), None)


def continued(prompt: str, reply: str) -> str:
    r"""Return a reply behind the opening mark that its prompt ended with, if it ended with one.

    Otherwise a reply that was cut inside a thinking looked like any other.

    Example:
        >>> continued("<|im_start|>assistant\n<think>\n", "7 or")
        '<think>\n7 or'
    """
    pair = _opened(prompt)
    if pair is None or reply.lstrip().startswith(pair.opening):
        return reply
    return prompt[prompt.rindex(pair.opening) :] + reply


def written(
    tokenizer: Any, prompt: Sequence[int], answer: Sequence[int], text: str | None = None
) -> str:
    """Return what a checkpoint wrote as text, without control tokens but with marks of thinking.

    Args:
        tokenizer: of transformers.
        prompt: token ids of the prompt.
        answer: token ids that followed.
        text: what an engine made of them, see `decoded`.
    """
    end = tokenizer.decode(list(prompt[-_PROMPT_END:]), skip_special_tokens=False)
    return continued(end, decoded(tokenizer, answer, text))


def decoded(tokenizer: Any, tokens: Sequence[int], text: str | None = None) -> str:
    """Return tokens as text, without control tokens except for marks of thinking.

    Args:
        tokenizer: of transformers.
        tokens: what was written.
        text: what an engine made of them; it stays as it is unless marks are missing from it.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marks = {i: str(one) for i, one in added.items() if one.special and str(one) in _CONTROLS}
    if text is not None and marks.keys().isdisjoint(tokens):
        return text
    text, run = "", list[int]()
    for token in tokens:
        if token in marks:
            text += tokenizer.decode(run, skip_special_tokens=True) + marks[token]
            run = []
        else:
            run.append(token)
    last: str = tokenizer.decode(run, skip_special_tokens=True) if run else ""
    return text + last


def closing_mark(prompt: str, reply: str) -> str | None:
    """Return what closes the thinking that a reply is in, by its beginning; None outside of one."""
    start = reply.lstrip()
    if start.startswith(_ANALYSIS.opening):
        return _ANALYSIS.closing
    found = _opening(start)
    pair = _opened(prompt) or (found and found[0])
    return pair.closing if pair else None


def may_open(reply: str) -> bool:
    """Whether so much of a reply may become an opening mark."""
    start = reply.lstrip()
    return any(pair.opening.startswith(start) for pair in (_ANALYSIS, *_PAIRS))


def _between_marks(reply: str) -> Parts | None:
    """Take a reply apart at the marks of a pair."""
    thoughts: list[str] = []
    at = 0
    while (opened := _opening(reply, at)) is not None:
        pair, begins = opened
        found = _closing(reply, pair, begins)
        if found is None:
            return Parts(None, _joined([*thoughts, reply[begins:]]))
        thoughts.append(reply[begins : found.start()])
        at = found.end()
    if not thoughts:
        found = _lone_closing(reply)
        if found is None:
            return _framed(reply)
        thoughts, at = [reply[: found.start()]], found.end()
    return Parts(_unframed(_without_closings(reply[at:])), _joined(thoughts))


def _opening(text: str, at: int = 0) -> tuple[_Pair, int] | None:
    """Return the pair whose opening mark stands at a place, and where its thinking begins."""
    found = _OPENINGS.match(text, at)
    if found is None:
        return None
    pair, end = _OF_OPENING[found["mark"].casefold()], found.end()
    spoken = _TALKED_ABOUT.match(text, end) and _closing(text, pair, end, strict=True) is None
    return None if spoken else (pair, end)


def _closing(text: str, pair: _Pair, at: int, *, strict: bool = False) -> re.Match[str] | None:
    """Return where a thinking ends: at the first closing mark that is not merely spoken of.

    Where all are words of a sentence the last one ends it, since something did open it, unless
    that is what is asked about (`strict`).
    """
    last = None
    for match in _CLOSING[pair].finditer(text, at):
        if _is_quoted(text, match.start(), match.end()):
            continue
        if not _in_sentence(text, match.start(), match.end()):
            return match
        last = match
    return None if strict else last


def _lone_closing(text: str) -> re.Match[str] | None:
    """Return the closing mark of a thinking that was opened in the prompt, if a reply has one."""
    unclosed: Counter[_Pair] = Counter()
    code = _Code(text)
    for match in _ALONE.finditer(text):
        mark = match[0].casefold()
        if mark in _OF_OPENING:
            unclosed[_OF_OPENING[mark]] += 1
        elif unclosed[pair := _OF_CLOSING[mark]]:
            unclosed[pair] -= 1
        elif not (code.holds(match.start()) or _is_mentioned(text, match.start(), match.end())):
            return match
    return None


class _Code:
    """Where in a text code stands: in fenced blocks, and between backticks on a line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._fences = [match.start() for match in re.finditer("```", text)]
        single = text.replace("```", "   ") if self._fences else text
        self._ticks = [match.start() for match in re.finditer("`", single)]

    def holds(self, place: int) -> bool:
        """Whether a place is in code."""
        line = self._text.rfind("\n", 0, place) + 1 if self._ticks else 0
        ticks = bisect_left(self._ticks, place) - bisect_left(self._ticks, line)
        return (bisect_left(self._fences, place) % 2 or ticks % 2) == 1


def _is_mentioned(text: str, start: int, end: int) -> bool:
    """Whether a text only speaks of the mark from `start` to `end`."""
    return _is_quoted(text, start, end) or _in_sentence(text, start, end)


def _is_quoted(text: str, start: int, end: int) -> bool:
    return start > 0 and text[start - 1] in _QUOTES and text[end : end + 1] in {*_QUOTES}


def _in_sentence(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 40) : start], text[end : end + 40]
    return bool(_SENTENCE_BEFORE.search(before) and _SENTENCE_AFTER.match(after))


def _without_closings(text: str) -> str:
    """Return an answer without closing marks that were repeated before it."""
    repeated = _REPEATED.match(text)
    return text[repeated.end() :] if repeated else text


def _framed(reply: str) -> Parts | None:
    """Return the answer of a reply that has a frame of control marks and no thinking."""
    start = reply.lstrip()
    if start.startswith(("<|begin_of_solution|>", "<|START_RESPONSE|>")):
        return Parts(_unframed(reply), None)
    return None


def _unframed(answer: str) -> str:
    text = answer.strip()
    for opening, closing in _FRAMES:
        if text.startswith(opening) and (opening or text.endswith(closing)):
            inner = text[len(opening) :].removesuffix(closing)
            return text if closing in inner else inner.strip()
    return text


def _joined(thoughts: list[str]) -> str | None:
    said = [thought.strip() for thought in thoughts]
    return "\n\n".join(thought for thought in said if thought) or None


def _channels(reply: str) -> Parts | None:
    """Take apart a reply of gpt-oss: messages on channels, of which "final" is the answer."""
    headers = list(_HEADER.finditer(reply))
    if not headers:
        return None
    before = reply[: headers[0].start()]
    if before.strip():
        final = next((one for one in headers if one["channel"] == "final"), None)
        if final is None or _is_mentioned(reply, final.start(), final.end()):
            return None
        if _Code(reply).holds(final.start()):
            return None
    thoughts, answers = [before], list[str]()
    ends = [*(header.start() for header in headers[1:]), len(reply)]
    for header, end in zip(headers, ends, strict=True):
        said = _MESSAGE_END.sub("", reply[header.end() : end])
        (answers if header["channel"] == "final" else thoughts).append(said)
    response = "\n\n".join(answers).strip() if answers else None
    return Parts(response, _joined(thoughts))


def _channel_names(reply: str) -> Parts | None:
    """Take apart such a reply when nothing is left of its headers but the channels' names."""
    start = _BARE_START.match(reply)
    for final in re.finditer(_BARE_FINAL, reply):
        last = reply[final.start() - 1 : final.start()]
        # "...18 dollars.assistantfinalShe earns": nobody's own words run together like this.
        alone = last and not (last.isalpha() or last.isspace() or last in _QUOTES)
        if start or alone:
            thinking = reply[start.end() if start else 0 : final.start()]
            return Parts(reply[final.end() :].strip(), _joined([thinking]))
    if start and reply[start.end() : start.end() + 1].isalnum():  # "analysisWe need to"
        return Parts(None, _joined([reply[start.end() :]]))
    if answer := _BARE_ANSWER.match(reply):
        return Parts(reply[answer.end() :].strip(), None)
    return None

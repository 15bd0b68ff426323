"""How a conversation becomes a model's prompt: its chat template, with the template's habits fixed.

    tokenizer = with_chat_form(AutoTokenizer.from_pretrained(folder))
    prompt_ids(tokenizer, messages)

Evaluation, judging, scoring and training all take their tokenizers from here, so that one
conversation is one prompt everywhere and on every day:

- a template that asks for today's date is told `CHAT_DATE`;
- where a template has no system role (it refuses one, or leaves it out without a word), the system
  prompt stands before the first user turn;
- the template alone writes the tokens that begin and end texts and turns, as transformers and
  servers have it: whoever reads the prompt adds none, so none comes twice;
- a template that refuses a conversation is one line.
"""

import ctypes
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from mipo_eval.checkpoints import beginning, chat_template
from mipo_eval.errors import ChatTemplateError, ConfigError, ModelError
from mipo_eval.models.spec import ModelSpec
from mipo_eval.settings import read_text

CHAT_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""The day every template is told it is: the one that Llama's templates name by themselves. A date
that moves would make another prompt, and so another number, every day."""

Messages = Sequence[Mapping[str, str]]
_PROBE = "4f1d9c7ab2"
"""A text that no template writes by itself."""
SAID = f'{_PROBE} <b>5 > 4 & it\'s "so"</b>\n\\ {_PROBE}'
"""An answer with all that escapes change."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def with_chat_form(tokenizer: Any, **told: Any) -> Any:
    """Return the tokenizer, whose `apply_chat_template` is a `ChatForm` from now on.

    Whatever is done with it, its template is `told` these arguments: enable_thinking=False.
    """
    if told or not isinstance(getattr(tokenizer, "apply_chat_template", None), ChatForm):
        tokenizer.apply_chat_template = ChatForm(tokenizer, told)
    return tokenizer


def prompt_ids(tokenizer: Any, messages: Messages, **how: Any) -> list[int]:
    """Return the token ids of a conversation, up to where the model's response begins.

    `how` is what the template is told beside what its tokenizer was given (`with_chat_form`).

    Raises:
        ChatTemplateError: the chat template refuses the conversation.
    """
    text = with_chat_form(tokenizer).apply_chat_template(
        [dict(message) for message in messages], tokenize=False, add_generation_prompt=True, **how
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def asks_for_the_date(template: str | None) -> bool:
    """Whether a template writes the date into its prompts."""
    return bool(template) and "strftime_now" in str(template)


def _dated(template: str) -> str:
    """Return a template for which it is always `CHAT_DATE`.

    By a macro: a function that is given to a template beside its messages becomes a text in newer
    versions of transformers. The empty text behind it keeps what the template begins with.
    """
    told = {f"%{code}": CHAT_DATE.strftime(f"%{code}") for code in "aAbBcdHIjmMpSxXyYZ"}
    told |= {"%-d": str(CHAT_DATE.day), "%-m": str(CHAT_DATE.month), "%%": "%"}
    filled = "".join(f" | replace({code!r}, {text!r})" for code, text in told.items())
    macro = f"{{%- macro strftime_now(format) -%}}{{{{ format{filled} }}}}{{%- endmacro %}}"
    return f"{macro}{{{{ '' }}}}{template}"


@cache
def has_system_role(template: str) -> bool:
    """Whether a system turn gets into a template's prompts, as a turn or however it has it.

    A template that cannot be rendered here is believed to have the role.
    """
    user = {"role": "user", "content": "?"}
    told = _rendered(template, [{"role": "system", "content": _PROBE}, user])
    return _rendered(template, [user]) is None or (told is not None and _PROBE in told)


def check_answers(name: str, template: str) -> None:
    """Refuse a model's template if what an assistant says does not stand in it as it was said.

    A template that cannot be rendered here is believed to leave it as it is.

    Raises:
        ModelError: it escapes or rewrites what an assistant says.
    """
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}]
    text = _rendered(template, turns)
    if template and text is not None and SAID not in text:
        raise escaped(name)


def escaped(name: str) -> ModelError:
    """Return what to say where a model's chat template changes what an assistant says."""
    return ModelError(
        f"the chat template of {name} escapes or rewrites what an assistant says, so a response "
        "has no form to train it in: give another template with --set chat_template=FILE"
    )


def _rendered(template: str, turns: Messages) -> str | None:
    """Return a conversation as transformers renders it, which takes seconds to import; or None."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    rules = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    rules.filters["tojson"] = lambda value, **_: json.dumps(value)
    rules.globals |= {"raise_exception": _raise, "strftime_now": CHAT_DATE.strftime}
    tokens = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "")
    try:
        with _in_time():
            # The mark of what the assistant says, which only training looks at.
            plain = rules.from_string(_GENERATION.sub("", template))
            return plain.render(messages=turns, add_generation_prompt=True, **tokens)
    except (TemplateError, TypeError, *_RAISED):
        return None


_RAISED = (
    *(ValueError, ArithmeticError, LookupError, AttributeError),
    *(RecursionError, MemoryError, TimeoutError),
)
"""What programs raise beside Jinja's own errors, and how they are stopped."""
_LONGEST_SECONDS = 60.0
"""For one conversation, which takes a thousandth of a second."""
_LOOKS = 0.5
"""Seconds between two looks at who is late."""


class _Watch:
    """Stops what renders too long, whatever thread it is in: some templates never end."""

    def __init__(self) -> None:
        self._late: dict[int, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Watch the calling thread."""
        with self._lock:
            self._late[threading.get_ident()] = time.monotonic() + _LONGEST_SECONDS
        if self._thread is None or not self._thread.is_alive():  # nor does it outlive a fork
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Watch the calling thread no longer."""
        with self._lock:
            self._late.pop(threading.get_ident(), None)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOKS)
            with self._lock:
                now = time.monotonic()
                for name in [name for name, late in self._late.items() if late < now]:
                    del self._late[name]
                    late = ctypes.py_object(TimeoutError)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(name), late)


_WATCH = _Watch()


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise TimeoutError in what does not end; it has to be Python code, as templates are."""
    _WATCH.begin()
    try:
        yield
    except TimeoutError:
        raise TimeoutError(f"it does not come to an end in {_LONGEST_SECONDS:g} s") from None
    finally:
        _WATCH.end()


def _raise(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def read_chat_template(path: Path) -> str:
    """Return the text of a chat template file.

    Raises:
        ConfigError: the file cannot be read or is not a Jinja template.
    """
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        text = read_text(path)
        ImmutableSandboxedEnvironment().parse(text)
    except OSError as error:
        raise ConfigError(f"chat_template={path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, TemplateSyntaxError, RecursionError) as error:
        raise ConfigError(f"chat_template={path} is not a Jinja template: {error}") from error
    return text


def chat_template_of(model: ModelSpec) -> str:
    """Return the chat template of a checkpoint; empty where it has none, or its server has it."""
    return chat_template(model.checkpoint.tokenizer) if model.checkpoint else ""


def template_habits(model: ModelSpec, given: str | None) -> dict[str, str]:
    """Return what keys of responses say of a chat template by which prompts once were others.

    They held the date of the day, and a token that begins texts although the template writes none.
    `given` is the user's template in place of the checkpoint's own.
    """
    if model.checkpoint is None:
        return {}
    template = given or chat_template_of(model)
    found = {}
    if asks_for_the_date(template):
        found["chat_date"] = f"{CHAT_DATE:%Y-%m-%d}"
    bos = beginning(model.checkpoint.tokenizer)
    if bos and bos not in template and "bos_token" not in template:
        found["begins_with"] = "what the template writes"
    return found


class ChatForm:
    """A tokenizer's `apply_chat_template`, less its habits; a class, so that it can be pickled."""

    def __init__(self, tokenizer: Any, told: Mapping[str, Any]) -> None:
        self._tokenizer, self._told = tokenizer, dict(told)
        self.has_folded = False
        """Whether a system prompt was put before a user turn."""

    def __call__(
        self,
        conversation: Any,
        tools: Any = None,
        documents: Any = None,
        chat_template: str | None = None,
        **how: Any,
    ) -> Any:
        """Return what the tokenizer's class makes of one conversation, or of several.

        Raises:
            ChatTemplateError: the template refuses the conversation.
        """
        how = self._told | how | {"tools": tools, "documents": documents}
        if not hasattr(self._tokenizer, "get_chat_template"):  # mistral-common has no templates
            return self._apply(conversation, chat_template=chat_template, **how)
        try:
            template: str = self._tokenizer.get_chat_template(chat_template, tools)
        except ValueError as error:
            raise ChatTemplateError(_line(error)) from None
        if isinstance(conversation[0], list | tuple):
            conversation = [self._with_known_roles(one, template) for one in conversation]
        else:
            conversation = self._with_known_roles(conversation, template)
        if asks_for_the_date(template):
            template = _dated(template)
        return self._apply(conversation, chat_template=template, **how)

    def _with_known_roles(self, messages: Messages, template: str) -> Messages:
        if messages[0]["role"] != "system" or has_system_role(template):
            return messages
        self.has_folded = True
        return without_system(messages)

    def _apply(self, conversation: Any, **how: Any) -> Any:
        from jinja2 import TemplateError

        # Templates are programs: they raise what they like, or add a number to a text.
        only_renders = how.get("tokenize") is False
        kinds = (TypeError, *_RAISED) if only_renders else (TimeoutError,)
        try:
            with _in_time():
                own = type(self._tokenizer).apply_chat_template
                return own(self._tokenizer, conversation, **how)
        except (TemplateError, *kinds) as error:
            name = str(self._tokenizer.name_or_path).rstrip("/").rsplit("/", 1)[-1]
            raise ChatTemplateError(
                f"the chat template of {name} refuses a conversation: "
                f"{_line(error) or type(error).__name__}"
            ) from None


def without_system(messages: Messages) -> list[dict[str, str]]:
    """Return a conversation whose system prompt stands before the text of the first user turn."""
    turns = [dict(message) for message in messages]
    if not turns or turns[0]["role"] != "system":
        return turns
    system, *rest = turns
    first = next((turn for turn in rest if turn["role"] == "user"), None)
    if first is None:
        return turns
    first["content"] = f"{system['content']}\n\n{first['content']}"
    return rest


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

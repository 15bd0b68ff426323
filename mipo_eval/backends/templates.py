"""What backends that run a checkpoint themselves share: its chat template and its context."""

from pathlib import Path
from typing import Any

from mipo_eval.backends.addresses import sendable
from mipo_eval.backends.base import Failure, Request
from mipo_eval.checkpoints import has_chat_template
from mipo_eval.errors import BackendError


def need_chat_template(name: str, folder: Path) -> None:
    """Raise if a checkpoint cannot be asked as a judge.

    Raises:
        BackendError: it has no chat template.
    """
    if not has_chat_template(folder):
        raise BackendError(
            f"{name} has no chat template, so it cannot be asked as a judge: use an "
            "instruction-tuned model, or put a chat_template.jinja into its folder"
        )


def prompt_tokens(tokenizer: Any, request: Request) -> list[int] | Failure:
    """Return a request in the model's own form, up to where its answer begins."""
    from jinja2 import TemplateError

    turns = [{"role": turn.role, "content": sendable(turn.content)} for turn in request.messages]
    # Templates of models that think know this switch; the others do not look at it.
    thinking = {"enable_thinking": False} if request.sampling.reasoning == "none" else {}
    try:
        text = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False, **thinking
        )
    except TemplateError as error:
        return Failure(kind="bad_request", detail=f"the chat template refuses this: {error}")
    tokens: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokens


def too_long(name: str, needed: int, room: int) -> Failure:
    """Return the failure of a request that does not fit into the model's context."""
    return Failure(
        kind="bad_request",
        detail=f"the request and its answer take {needed} tokens, {name} has room for {room}",
    )

"""How the prompt ends that a server on one's own network makes of a question, where it tells.

A server that does not take thinking off its replies may also keep from us that its template begins
one: a reply that is then cut looks like any other. vLLM and llama.cpp say what they make of a
conversation; others are left as they are.
"""

from collections.abc import Mapping
from typing import Any

from mipo_eval.models.effort import Effort
from mipo_eval.models.spec import is_private
from mipo_eval.models.told import fields, json_of

_SECONDS = 5.0
_END = 16
"""Tokens that are asked for as text."""


def served_prompt_end(url: str, model: str, effort: Effort) -> str:
    """Return the end of a prompt as a server's template writes it; empty where it does not say.

    Args:
        url: the server's base URL, with /v1. Only servers on one's own network are asked.
        model: the name it is served by.
        effort: what the template is told.
    """
    if not is_private(url):
        return ""
    root = url.removesuffix("/v1")
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "?"}]}
    if arguments := effort.template_arguments():
        asked["chat_template_kwargs"] = arguments
    written = _told(f"{root}/apply-template", asked).get("prompt")  # llama.cpp
    if not isinstance(written, str):
        tokens = _told(f"{root}/tokenize", asked).get("tokens")  # vLLM
        last = tokens[-_END:] if isinstance(tokens, list) else []
        written = last and _told(f"{root}/detokenize", {"model": model, "tokens": last}).get(
            "prompt"
        )
    return written if isinstance(written, str) else ""


def _told(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a server answers, or nothing where it has no such address."""
    import httpx2

    try:
        answer = httpx2.post(url, json=dict(body), timeout=_SECONDS, trust_env=False)
        return fields(json_of(answer.content)) if answer.is_success else {}
    except (httpx2.HTTPError, ValueError):
        return {}

"""Servers' URLs, and text from servers made fit to be shown: one form, one line, no key."""

import ipaddress
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from urllib.parse import urlsplit

from mipo_eval.errors import ConfigError

OPENAI_KEY = "OPENAI_API_KEY"
GEMINI_KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
"""The environment variables keys are read from, at call time; they are stored nowhere."""

_KEY_LIKE = re.compile(r"\b(?:(?:sk|key|Bearer)[-_ ]|AIza)[\w*.-]{6,}")
_LISTED = 12
"""Models named in an error, at most."""


def normal_url(text: str, *, path: str = "", key: str = OPENAI_KEY) -> str:
    """Return a server's URL in its one form: lower case, with scheme, no slash at the end.

    Args:
        text: what the user wrote; without a scheme it is http on one's own network, else https.
        path: what to add where there is no path.
        key: the environment variable to name where the URL holds credentials.

    Raises:
        ConfigError: it holds a user or password, or is no URL; the message does not repeat it.
    """
    text = text.strip()
    if "://" not in text:
        text = ("http://" if is_private(f"http://{text}") else "https://") + text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("the judge's URL cannot be read: use http://host:port/v1") from None
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"the URL of {parts.hostname} holds credentials or a query: remove them and set the "
            f"environment variable {key}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{text!r} is not a server's URL: use http://host:port/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/') or path}"


def is_private(url: str) -> bool:
    """Whether a URL is on this machine or network, where servers mostly ask for no key."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
    return address.is_private or address.is_loopback or address.is_link_local


def clean(text: str) -> str:
    """Return text from a server as one short line that holds no key."""
    for name in (OPENAI_KEY, *GEMINI_KEYS):
        if key := os.environ.get(name):
            text = text.replace(key, "<key>")
    return " ".join(_KEY_LIKE.sub("<key>", text).split())[:300]


def sendable(text: str) -> str:
    """Return text a server can be sent: model output may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def near(served: Sequence[str], wanted: str) -> str:
    """Return the names nearest to the one wanted, and how many more there are."""
    if not served:
        return "nothing"
    if len(served) <= _LISTED:
        return ", ".join(served)
    listed = get_close_matches(wanted, served, n=_LISTED, cutoff=0.0)
    return f"{', '.join(listed)} and {len(served) - len(listed)} more"

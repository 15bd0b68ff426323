"""Which key goes to which server: the one place that decides, by the server's URL.

A key goes to the server it was made for and to no other. In this order:

1. what a preset names (`api_key_env`), to the server that the preset names;
2. MIPO_EVAL_KEY_<HOST>, for any server (see `host_variables`);
3. a provider's own variable, by that provider's convention, to that provider's hosts and to the
   one that its own variable for another address names (OPENAI_BASE_URL and the like).

Without one of these nothing is sent. The third never travels over plain http to another machine:
there everybody on the way can read it. The first two were said for this very server, so they do.
"""

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mipo_eval.errors import BackendError

if TYPE_CHECKING:
    import aiohttp

PREFIX = "MIPO_EVAL_KEY_"
PLACEHOLDER = "none"
"""What client libraries get that insist on a key where there is none."""

_KEY_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
"""The headers that clients send keys in."""
_ACCOUNT_HEADERS = ("openai-organization", "openai-project")
"""What OpenAI's client sends of the account beside its key, from the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A company's servers and what it calls its keys."""

    hosts: tuple[str, ...]
    """One that begins with a dot stands for every host below it."""
    variables: tuple[str, ...]
    """That hold its key; the first that is set counts."""
    address: str | None = None
    """The variable of its client library that names another server."""


PROVIDERS: Mapping[str, Provider] = {
    "OpenAI": Provider(
        hosts=("api.openai.com",), variables=("OPENAI_API_KEY",), address="OPENAI_BASE_URL"
    ),
    "Anthropic": Provider(
        hosts=("api.anthropic.com",),
        variables=("ANTHROPIC_API_KEY",),
        address="ANTHROPIC_BASE_URL",
    ),
    "Gemini": Provider(
        hosts=("generativelanguage.googleapis.com",),
        variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    "Azure": Provider(
        hosts=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
        variables=("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
        address="AZURE_OPENAI_ENDPOINT",
    ),
    "Cerebras": Provider(hosts=("api.cerebras.ai",), variables=("CEREBRAS_API_KEY",)),
    "Cohere": Provider(
        hosts=("api.cohere.com", "api.cohere.ai"), variables=("CO_API_KEY", "COHERE_API_KEY")
    ),
    "DashScope": Provider(
        hosts=("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
        variables=("DASHSCOPE_API_KEY",),
    ),
    "DeepInfra": Provider(
        hosts=("api.deepinfra.com",), variables=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN")
    ),
    "DeepSeek": Provider(hosts=("api.deepseek.com",), variables=("DEEPSEEK_API_KEY",)),
    "Fireworks": Provider(hosts=("api.fireworks.ai",), variables=("FIREWORKS_API_KEY",)),
    "Groq": Provider(hosts=("api.groq.com",), variables=("GROQ_API_KEY",)),
    "Hugging Face": Provider(hosts=("router.huggingface.co",), variables=("HF_TOKEN",)),
    "Mistral": Provider(hosts=("api.mistral.ai",), variables=("MISTRAL_API_KEY",)),
    "Moonshot": Provider(
        hosts=("api.moonshot.ai", "api.moonshot.cn"), variables=("MOONSHOT_API_KEY",)
    ),
    "NVIDIA": Provider(hosts=("integrate.api.nvidia.com",), variables=("NVIDIA_API_KEY",)),
    "OpenRouter": Provider(hosts=("openrouter.ai",), variables=("OPENROUTER_API_KEY",)),
    "Perplexity": Provider(hosts=("api.perplexity.ai",), variables=("PERPLEXITY_API_KEY",)),
    "SambaNova": Provider(hosts=("api.sambanova.ai",), variables=("SAMBANOVA_API_KEY",)),
    "Together": Provider(
        hosts=("api.together.xyz", "api.together.ai"), variables=("TOGETHER_API_KEY",)
    ),
    "xAI": Provider(hosts=("api.x.ai",), variables=("XAI_API_KEY",)),
}
"""Who else has servers is known by MIPO_EVAL_KEY_<HOST>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What one server is sent to show who asks. It knows where the key is, not the key."""

    names: tuple[str, ...]
    """The variables that could hold it, the one to name to the user first."""
    variable: str | None
    """The one that does; None where nothing is sent."""
    required: bool
    """Whether asking without a key is pointless."""
    withheld: bool = field(default=False)
    """Whether a key is there but must not travel over plain http."""

    @property
    def key(self) -> str | None:
        """The key itself, read now: it is stored nowhere."""
        return _read(self.variable) if self.variable else None

    def __str__(self) -> str:
        """Say, after the name of a server that is not content, what it wants."""
        if self.variable:
            return f"refuses the key in {self.variable}"
        if self.withheld:
            safe = f"use https, or set {self.names[0]} for this very server"
            return f"asks for a key, which everybody can read that is sent over plain http: {safe}"
        return f"asks for a key: set {self.names[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentKey:
    """A key in the form in which a protocol sends it."""

    credential: Credential
    header: str = "authorization"
    before: str = ""
    """What stands before it in the header."""


def credential(url: str, named: str | None = None) -> Credential:
    """Return which key goes to the server at `url`.

    Args:
        url: with its scheme.
        named: the variable that a preset names for this server.
    """
    if named:
        held = named if _read(named) else None
        return Credential(names=(named,), variable=held, required=True)
    own = host_variables(url)
    held = next((name for name in own if _read(name)), None)
    provider = _provider(url)
    if held or provider is None:
        return Credential(names=own, variable=held, required=False)
    held = next((name for name in provider.variables if _read(name)), None)
    if held and not is_confidential(url):
        return Credential(names=own, variable=None, required=False, withheld=True)
    return Credential(names=provider.variables, variable=held, required=not is_loopback(url))


def demanded(url: str, named: str | None = None) -> Credential:
    """Return which key goes to a server, as `credential` does.

    Raises:
        BackendError: there is none, and asking without one is pointless.
    """
    held = credential(url, named)
    if held.required and not held.variable:
        raise BackendError(f"{url} needs a key: set the environment variable {held.names[0]}")
    return held


def host_variables(url: str) -> tuple[str, ...]:
    """Return what MIPO_EVAL_KEY_<HOST> is called for a server, the most particular first.

    The host is written in capitals, with `_` for a dot (or a colon of IPv6) and `__` for a hyphen,
    as Terraform writes hosts in TF_TOKEN_. Where the URL has a port, the name with `_PORT` at its
    end counts before the one without, which is for all ports of the host.

    Example:
        >>> host_variables("http://gpu-1.example.com:8000/v1")
        ('MIPO_EVAL_KEY_GPU__1_EXAMPLE_COM_8000', 'MIPO_EVAL_KEY_GPU__1_EXAMPLE_COM')
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").replace("-", "__")
    name = PREFIX + re.sub(r"[^A-Za-z0-9]", "_", host).upper()
    return (f"{name}_{parts.port}", name) if parts.port else (name,)


def is_loopback(url: str) -> bool:
    """Whether a URL is on this very machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.endswith(".localhost") or bool(_LOOPBACK(host))


_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}").fullmatch


def is_confidential(url: str) -> bool:
    """Whether nobody on the way can read what is sent to a URL."""
    return urlsplit(url).scheme == "https" or is_loopback(url)


def _provider(url: str) -> Provider | None:
    host, place = urlsplit(url).hostname or "", _place(url)
    for provider in PROVIDERS.values():
        own = any(
            host.endswith(name) if name.startswith(".") else host == name for name in provider.hosts
        )
        elsewhere = os.environ.get(provider.address or "", "").split(",")
        if own or place in {_place(other) for other in elsewhere if other.strip()}:
            return provider
    return None


@lru_cache
def _place(url: str) -> tuple[str | None, int | None]:
    """Return host and port of a URL that may lack a scheme; the usual port is None."""
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.hostname, None if port == usual else port


def _read(name: str) -> str | None:
    return (os.environ.get(name) or "").strip() or None


def set_key(headers: MutableMapping[str, str], to: str, home: str, sent: SentKey) -> None:
    """Have a request carry the key of its server, or none: the last word, whatever a client put in.

    Clients read variables of their own, and follow a redirect with the headers of the first
    request. So this is called for every request, the redirected ones too.

    Args:
        headers: of the request; changed.
        to: where it goes.
        home: the server that the key is for.
        sent: the key, and how it is sent there.
    """
    at_home = (urlsplit(to).scheme, _place(to)) == (urlsplit(home).scheme, _place(home))
    openais = sent.credential.variable in PROVIDERS["OpenAI"].variables
    for name in (*_KEY_HEADERS, *(() if at_home and openais else _ACCOUNT_HEADERS)):
        headers.pop(name, None)
    if at_home and (key := sent.credential.key):
        headers[sent.header] = f"{sent.before}{key}"


def keyed(home: str, sent: SentKey) -> "aiohttp.ClientMiddlewareType":
    """Return what sets the key of the server at `home` in every request of an aiohttp session."""

    async def with_key(
        request: "aiohttp.ClientRequest", handler: "aiohttp.ClientHandlerType"
    ) -> "aiohttp.ClientResponse":
        set_key(request.headers, str(request.url), home, sent)
        return await handler(request)

    return with_key

"""Any other provider, through any-llm: Bedrock, Vertex, Mistral, OpenRouter and some forty more.

Chosen over litellm, which does the same: it is imported in a third of the time (2 s, not 5), takes
82 MB of memory instead of 197, and brings a third of the megabytes.
"""

import json
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.models.base import Limits, Reply, Request, sendable
from mipo_eval.models.credentials import PLACEHOLDER, host_variables, is_confidential
from mipo_eval.models.openai import read_completion
from mipo_eval.models.server import Send, ServedBackend, Trouble, clean
from mipo_eval.models.spec import normal_url
from mipo_eval.models.told import word

if TYPE_CHECKING:
    from any_llm import AnyLLM


class AnyLlmBackend(ServedBackend):
    """Asks a model at a provider that any-llm knows.

    Args:
        model: PROVIDER:MODEL, e.g. `mistral:mistral-large-latest`.
        base_url: another server than the provider's own.
        limits: how hard it may be pushed.
        api_key_env: the environment variable that holds its key; default the provider's own, and
            for another server the one that belongs there.

    Raises:
        ConfigError: any-llm is not installed, or there is no such provider.
    """

    kind = "any-llm"
    package = "any_llm"
    optional = frozenset({"temperature", "top_p", "seed", "logprobs", "top_logprobs"})
    _variable = ""
    """Where the provider's own key is."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        api_key_env: str | None = None,
    ) -> None:
        provider, _, name = model.partition(":")
        if not name:
            raise ConfigError(f"any-llm:{model} has no provider: write any-llm:PROVIDER:MODEL")
        self.provider = provider
        super().__init__(name, base_url, limits=limits, api_key_env=api_key_env)

    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        return (normal_url(base_url),) if base_url else ()

    @property
    def identity(self) -> Mapping[str, str]:
        """The provider, its model, and the server where that is another."""
        return {**super().identity, "provider": str(self.provider)}

    @property
    def _where(self) -> str:
        """What messages call the server."""
        return self.urls[0] if self.urls else str(self.provider)

    async def check(self) -> None:
        """See that there are such a provider, its package and a key; see `Backend.check`.

        Whether the provider takes the key, the first request tells: not each has a list of models.
        """
        self._client()
        self._sender.revive()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Send]:
        client = self._client()

        async def send(request: Request) -> Reply:
            return await self.accepted(lambda refused: self._completion(client, request, refused))

        yield send

    def _client(self) -> "AnyLLM":
        """Return the provider's client.

        Raises:
            ConfigError: there is no such provider, or its own package is not installed.
            BackendError: it needs a key.
        """
        from any_llm import AnyLLM
        from any_llm.exceptions import AnyLLMError, MissingApiKeyError, UnsupportedProviderError

        provider = str(self.provider)
        try:
            kind = AnyLLM.get_provider_class(provider)
            self._variable = kind.ENV_API_KEY_NAME
            self._refuse_plain(kind.ENV_API_BASE_NAME)
            return AnyLLM.create(
                provider,
                api_key=self._key_to_give(),
                api_base=self.urls[0] if self.urls else None,
                unified_exceptions=True,
                # Retries are ours: they are counted, spread and shared with the other backends.
                max_retries=None if kind.MAX_RETRIES_SUPPORT == "unsupported" else 0,
            )
        except UnsupportedProviderError:
            known = ", ".join(sorted(AnyLLM.get_supported_providers()))
            raise ConfigError(
                f"any-llm has no provider {self.provider!r}; it has {known}"
            ) from None
        except MissingApiKeyError as missing:
            reason = (
                f"{self._where} needs a key: set the environment variable {missing.env_var_name}"
            )
            raise BackendError(reason) from None
        except ImportError:
            needed = f"pip install 'any-llm-sdk[{provider}]'"
            raise ConfigError(f"any-llm:{provider} needs {needed}") from None
        except (AnyLLMError, ValueError) as error:
            raise BackendError(f"{self._where} cannot be asked: {clean(str(error))}") from None

    def _refuse_plain(self, address: str | None) -> None:
        """Raise BackendError where any-llm would send a key over plain http to another machine."""
        moved = os.environ.get(address or "", "")
        if moved and not self.urls and not is_confidential(moved):
            raise BackendError(
                f"{address} uses http, so others can read the key: use https, or "
                f"any-llm:{self.provider}:{self.model}@{moved} with {host_variables(moved)[0]}"
            )

    def _key_to_give(self) -> str | None:
        """Return the key, or None where the provider's own variable is for any-llm to read."""
        if self.urls:
            return self.credential(self.urls[0]).key or PLACEHOLDER
        return self.credential(self._where).key if self._api_key_env else None

    async def _completion(
        self, client: "AnyLLM", request: Request, refused: Collection[str]
    ) -> Reply:
        start = time.perf_counter()
        left_out = {*refused, *self.changes.left_out}
        sampling = request.sampling
        optional: dict[str, Any] = {
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            "reasoning_effort": sampling.reasoning or sampling.effort.level,
            "stop": list(sampling.stop) or None,
            **sampling.further,
        }
        if sampling.logprobs and not left_out & {"logprobs", "top_logprobs"}:
            optional |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        asked = client.acompletion(
            model=self.model,
            messages=[
                {"role": turn.role, "content": sendable(turn.content)} for turn in request.messages
            ],
            max_tokens=sampling.max_tokens,
            **{
                name: value
                for name, value in optional.items()
                if value is not None and name not in left_out
            },
        )

        async def body() -> bytes:
            answer: Any = await asked
            return json.dumps(answer.model_dump(mode="json")).encode()

        made = await self.mapped(body(), self._where)
        return read_completion(made, time.perf_counter() - start)

    def errors(self) -> tuple[type[Exception], ...]:
        """any-llm's errors, and what passes it unmapped."""
        from any_llm.exceptions import AnyLLMError

        return AnyLLMError, OSError, ValueError

    def trouble(self, error: Exception, url: str) -> Trouble:
        """Return what an error is in our terms; the provider's own words are kept where safe."""
        status = getattr(error, "status_code", None)
        words = str(getattr(error, "message", "") or error)
        made = _BY_KIND.get(type(error).__name__)
        if made and (status is None or status < 400):
            status = made
        if status is None:
            root = getattr(error, "original_exception", None) or error
            if isinstance(root, ValueError):  # no JSON, or JSON of another shape
                return Trouble("bad_reply", clean(words), again=True, billed=True)
            reason = clean(f"{type(root).__name__}: {words}")
            return Trouble("connection", f"no answer from {url}: {reason}", again=True, billed=True)
        if type(error).__name__ == "ContentFilterError":
            return Trouble("refused", f"{url} answered {status}: {clean(words)}")
        if status == 401 and not self.urls:
            variable = self._api_key_env or self._variable
            return Trouble("auth", f"{url} refuses the key in {variable}", stops=True)
        if status < 400:
            return Trouble("bad_reply", clean(words), again=True, billed=True)
        after = getattr(error, "retry_after", None)
        named = getattr(error, "parameter_name", None) or getattr(error, "param", None)
        return self.refusal(url, status, words, after=after, named=word(named))


_BY_KIND = {
    "AuthenticationError": 401,
    "InsufficientFundsError": 403,
    "ModelNotFoundError": 404,
    "RateLimitError": 429,
    "InvalidRequestError": 400,
    "ContextLengthExceededError": 400,
    "ContentFilterError": 400,
    "UnsupportedParameterError": 400,
    "UpstreamProviderError": 502,
    "GatewayTimeoutError": 504,
}
"""The HTTP status of an error that comes without one."""

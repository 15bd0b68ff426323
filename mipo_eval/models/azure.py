"""OpenAI's models at Azure: the same protocol, with deployments, API versions and its own key."""

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Limits
from mipo_eval.models.credentials import PLACEHOLDER, Credential, SentKey
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.models.spec import normal_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2
    import openai

ENDPOINT = "AZURE_OPENAI_ENDPOINT"
VERSION = "OPENAI_API_VERSION"
AD_TOKEN = "AZURE_OPENAI_AD_TOKEN"
"""The environment variables of the openai package's Azure client."""
_LATEST = "2024-10-21"
"""The last version that is no preview."""


class AzureBackend(OpenAIBackend):
    """Asks a deployment of an Azure OpenAI resource.

    Args:
        model: the deployment's name.
        base_url: the resource (`https://NAME.openai.azure.com`), or the whole address of the
            deployment with its `?api-version=`, as Azure shows it; default AZURE_OPENAI_ENDPOINT.
        limits: how hard it may be pushed.
        api_key_env: the environment variable that holds its key; default AZURE_OPENAI_API_KEY, or
            AZURE_OPENAI_AD_TOKEN for a token of Microsoft Entra.
        api_version: default that of the address, or OPENAI_API_VERSION.
    """

    kind = "azure"

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        api_key_env: str | None = None,
        api_version: str | None = None,
    ) -> None:
        address = base_url or os.environ.get(ENDPOINT) or ""
        url, _, query = address.partition("?")
        told = parse_qs(query).get("api-version", [None])[0]
        self._version = api_version or told or os.environ.get(VERSION) or _LATEST
        super().__init__(model, url, limits=limits, api_key_env=api_key_env)

    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        if not base_url:
            raise ConfigError(
                f"azure:{self.model} has no address: write "
                f"azure:{self.model}@https://RESOURCE.openai.azure.com, or set {ENDPOINT}"
            )
        url = normal_url(base_url)
        return (url[: url.index("/openai")] if "/openai" in urlsplit(url).path else url,)

    @property
    def identity(self) -> "Mapping[str, str]":
        """The deployment, its resource and the version of the API."""
        return {**super().identity, "api_version": self._version}

    @property
    def official(self) -> bool:
        """True: it takes what OpenAI takes."""
        return True

    def chat_url(self, url: str) -> str:
        """Return where a deployment is asked for completions."""
        version = f"api-version={self._version}"
        return f"{url}/openai/deployments/{self.model}/chat/completions?{version}"

    def models_url(self, url: str) -> str:
        """Return where a resource lists models; what is deployed it tells nobody."""
        return f"{url}/openai/models?api-version={self._version}"

    async def check(self) -> None:
        """See whether the resource is there and takes the key; see `Backend.check`."""
        async with self.opened_servers() as [server]:

            async def anything() -> None:
                await self.models(server)

            await self.check_served(server.url, anything())

    def sent_key(self, held: Credential) -> SentKey:
        """Return a key as Azure takes it, or a token."""
        if held.variable == AD_TOKEN:
            return super().sent_key(held)
        return SentKey(credential=held, header="api-key")

    def client(self, url: str, http: "httpx2.AsyncClient") -> "openai.AsyncOpenAI":
        """Return the client of a resource."""
        import openai

        return openai.AsyncAzureOpenAI(
            api_key=PLACEHOLDER,
            api_version=self._version,
            azure_endpoint=url,
            max_retries=0,
            http_client=http,
        )

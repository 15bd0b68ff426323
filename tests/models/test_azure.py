"""The Azure backend against a real local server with Azure's paths."""

import asyncio

import pytest

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.models.azure import AzureBackend
from mipo_eval.models.base import Failure, Limits, Message, Reply, Request
from mipo_eval.models.credentials import host_variables
from mipo_eval.models.spec import load_backend
from tests.servers.http import Act, Call, Server, json_act
from tests.servers.openai_server import error, filtered, ok
from tests.waiting import HANG

LIMITS = Limits(concurrency=1, attempts=1, timeout=HANG)
CHAT = "/openai/deployments/my-judge/chat/completions"


def azure(call: Call) -> Act:
    """A resource with one deployment."""
    if call.headers.get("api-key") != "of-azure":
        return error(401, "Access denied due to invalid subscription key", code="401")
    if call.path == "/openai/models":
        return json_act({"data": [{"id": "gpt-4.1"}]})
    if call.path != CHAT:
        return error(404, "The API deployment does not exist", code="DeploymentNotFound")
    return ok("4")


def ask(backend: AzureBackend, **options: object) -> Reply | Failure:
    async def first() -> Reply | Failure:
        messages = (Message(role="user", content="hi"),)
        request = Request(messages=messages, **options)  # type: ignore[arg-type]
        [outcome] = [outcome async for _, outcome in backend.answer([request])]
        return outcome

    return asyncio.run(first())


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "of-azure")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")


def test_a_deployment_is_asked_with_version_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(azure) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.address)
        backend = load_backend("azure:my-judge", limits=LIMITS)
        assert isinstance(backend, AzureBackend)
        asyncio.run(backend.check())
        reply = ask(backend, choices=("1", "2"))
    assert isinstance(reply, Reply)
    assert reply.text == "4"
    assert [call.path for call in server.calls] == ["/openai/models", CHAT]
    body = server.calls[-1].body
    assert (body["max_completion_tokens"], "structured_outputs" in body) == (16, False)
    assert not any("authorization" in call.headers for call in server.calls)
    assert backend.identity == {
        "backend": "azure",
        "model": "my-judge",
        "url": backend.urls[0],
        "api_version": "2024-10-21",
    }


def test_where_the_version_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://mine.openai.azure.com"
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01")
    assert AzureBackend("d", url).chat_url(url).endswith("?api-version=2025-01-01")
    shown = f"{url}/openai/deployments/d/chat/completions?api-version=2024-06-01"
    pasted = load_backend(f"azure:d@{shown}")
    assert isinstance(pasted, AzureBackend)
    assert pasted.urls == (url,)
    assert pasted.chat_url(url) == shown
    chosen = AzureBackend("d", shown, api_version="2023-05-15")
    assert chosen.identity["api_version"] == "2023-05-15"


def test_the_version_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Whole(Server):
        async def _answer_one(self, reader, writer):  # type: ignore[no-untyped-def]
            line = await reader.readuntil(b"\r\n")
            seen.append(line.decode())
            rest = await reader.readuntil(b"\r\n\r\n")
            again = asyncio.StreamReader()
            again.feed_data(line + rest)
            length = int(rest.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            again.feed_data(await reader.readexactly(length))
            return await super()._answer_one(again, writer)

    with Whole(azure) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.address)
        assert isinstance(ask(AzureBackend("my-judge", limits=LIMITS)), Reply)
    assert seen == [f"POST {CHAT}?api-version=2024-10-21 HTTP/1.1\r\n"]


def test_a_token_of_entra_is_a_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "token-of-entra")
    with Server(lambda _: ok()) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.address)
        assert isinstance(ask(AzureBackend("my-judge", limits=LIMITS)), Reply)
    [call] = server.calls
    assert call.headers["authorization"] == "Bearer token-of-entra"
    assert "api-key" not in call.headers


def test_what_goes_wrong_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="has no address: write azure:d@https://RESOURCE"):
        AzureBackend("d")
    with pytest.raises(BackendError, match="set the environment variable AZURE_OPENAI_API_KEY"):
        asyncio.run(AzureBackend("d", "https://mine.openai.azure.com").check())
    with Server(azure) as server:
        name = host_variables(server.address)[0]
        backend = AzureBackend("other", server.address, limits=LIMITS)
        with pytest.raises(BackendError, match=f"asks for a key: set {name}"):
            asyncio.run(backend.check())
        monkeypatch.setenv(name, "of-azure")
        failure = ask(backend)
    assert isinstance(failure, Failure)
    assert "404: The API deployment does not exist" in failure.detail
    with Server(lambda _: filtered()) as server:
        failure = ask(AzureBackend("my-judge", server.address, limits=LIMITS))
    assert isinstance(failure, Failure)
    assert failure.kind == "refused"


def test_an_older_version_takes_the_older_name_of_the_limit() -> None:
    def older(call: Call) -> Act:
        if "max_completion_tokens" in call.body:
            return error(400, "Unrecognized request argument supplied: max_completion_tokens")
        return ok()

    with Server(older) as server:
        backend = AzureBackend("my-judge", server.address, limits=LIMITS)
        assert isinstance(ask(backend), Reply)
        assert server.calls[-1].body["max_tokens"] == 16
    assert backend.changes.settings is None


def test_the_key_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(lambda _: ok()) as target:

        def elsewhere(call: Call) -> Act:
            return Act(status=307, headers={"location": f"{target.address}{call.path}"})

        with Server(elsewhere) as first:
            monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", first.address)
            assert isinstance(ask(AzureBackend("my-judge", limits=LIMITS)), Reply)
            assert first.calls[0].headers["api-key"] == "of-azure"
        assert not {"api-key", "authorization"} & {*target.calls[0].headers}

"""A key goes where it belongs: by the server's URL, on every way out, and past no redirect."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.judges.presets import load_judge
from mipo_eval.models.base import Backend, Failure, Limits, Message, Reply, Request
from mipo_eval.models.credentials import credential, host_variables
from mipo_eval.models.lm_eval import Decoding, ModelOptions, load_model, load_task
from mipo_eval.models.spec import load_backend, parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from tests.servers.gemini_server import GeminiServer
from tests.servers.http import Act, Call, Server
from tests.servers.openai_server import OpenAIServer, Policy, ok
from tests.waiting import HANG

LIMITS = Limits(concurrency=1, attempts=1, timeout=HANG)
SECRETS = {
    "OPENAI_API_KEY": "sk-of-openai",
    "GEMINI_API_KEY": "AIza-of-gemini",
    "MISTRAL_API_KEY": "of-mistral",
    "ANTHROPIC_API_KEY": "sk-ant-of-anthropic",
    "AZURE_OPENAI_API_KEY": "of-azure",
    "OPENROUTER_API_KEY": "sk-or-of-openrouter",
    "DEEPSEEK_API_KEY": "of-deepseek",
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of many providers, as people have them in their shell."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def ask(backend: Backend) -> Reply | Failure:
    async def first() -> Reply | Failure:
        await backend.check()
        request = Request(messages=(Message(role="user", content="hi"),))
        [outcome] = [outcome async for _, outcome in backend.answer([request])]
        return outcome

    return asyncio.run(first())


def secrets_sent(server: Server) -> set[str]:
    """Every header of every request that holds anything of a key."""
    parts = (*SECRETS.values(), "mine-alone")
    return {
        f"{name}: {value}"
        for call in server.calls
        for name, value in call.headers.items()
        if any(part in value for part in parts) or name in {"authorization", "x-api-key"}
    }


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com:443/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com.example.org/v1", None),
        ("https://example.org/api.openai.com", None),
        ("https://my-api.openai.com/v1", None),
        ("http://api.openai.com/v1", None),
        ("http://localhost:8000/v1", None),
        ("http://gpu-node:8000/v1", None),
        ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ("https://api-mistral.ai/v1", None),
        ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("https://mine.openai.azure.com/openai", "AZURE_OPENAI_API_KEY"),
        ("https://openai.azure.com.example.org", None),
        ("https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
    ],
)
def test_a_providers_key_is_for_its_own_hosts(url: str, variable: str | None) -> None:
    held = credential(url)
    assert held.variable == variable
    assert held.key == (SECRETS[variable] if variable else None)


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://api.example.com/v1", ("API_EXAMPLE_COM",)),
        ("https://api.example.com:8443", ("API_EXAMPLE_COM_8443", "API_EXAMPLE_COM")),
        ("https://api-example.com", ("API__EXAMPLE_COM",)),
        ("http://127.0.0.1:8000/v1", ("127_0_0_1_8000", "127_0_0_1")),
        ("http://[::1]:80/v1", ("__1_80", "__1")),
    ],
)
def test_what_a_hosts_variable_is_called(url: str, names: tuple[str, ...]) -> None:
    assert host_variables(url) == tuple(f"MIPO_EVAL_KEY_{name}" for name in names)


def test_a_host_has_its_own_key_also_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPO_EVAL_KEY_GPU__NODE", " of-all-ports\n")
    monkeypatch.setenv("MIPO_EVAL_KEY_GPU__NODE_8000", "of-this-port")
    assert credential("http://gpu-node:8000/v1").key == "of-this-port"
    assert credential("http://gpu-node:9000/v1").key == "of-all-ports"
    assert credential("http://gpu.node:8000/v1").key is None
    monkeypatch.setenv("MIPO_EVAL_KEY_API_OPENAI_COM", "another")
    assert credential("https://api.openai.com/v1").key == "another"


def test_the_server_that_openais_variable_names_gets_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OpenAIServer() as own, OpenAIServer() as other:
        monkeypatch.setenv("OPENAI_BASE_URL", own.url)
        assert isinstance(ask(load_backend("openai:judge", limits=LIMITS)), Reply)
        assert isinstance(ask(load_backend(f"openai:judge@{other.url}", limits=LIMITS)), Reply)
    assert secrets_sent(own) == {"authorization: Bearer sk-of-openai"}
    assert secrets_sent(other) == set()  # another port is another server
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy.example.com/v1")
    held = credential("http://proxy.example.com/v1")
    assert held.key is None
    assert "set MIPO_EVAL_KEY_PROXY_EXAMPLE_COM for this very server" in str(held)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example.com/v1")
    assert credential("https://proxy.example.com/v1").key == "sk-of-openai"


@pytest.mark.parametrize("kind", ["openai", "gemini"])
def test_a_local_server_gets_no_key_at_all(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    with OpenAIServer() if kind == "openai" else GeminiServer() as server:
        url = server.url
        assert isinstance(ask(load_backend(f"{kind}:judge@{url}", limits=LIMITS)), Reply)
        assert len(server.calls) == 2
    assert secrets_sent(server) == set()
    assert not any("org-of-mine" in call.headers.values() for call in server.calls)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("openai", "authorization: Bearer mine-alone"), ("gemini", "x-goog-api-key: mine-alone")],
)
def test_a_server_gets_the_key_that_is_set_for_it(
    kind: str, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer() if kind == "openai" else GeminiServer() as server:
        monkeypatch.setenv(host_variables(server.url)[0], "mine-alone")
        assert isinstance(ask(load_backend(f"{kind}:judge@{server.url}", limits=LIMITS)), Reply)
    assert secrets_sent(server) == {sent}


@pytest.fixture
def redirected() -> Iterator[tuple[Server, OpenAIServer]]:
    """A server that sends everybody on to another one, and that one."""
    with OpenAIServer() as target:

        def elsewhere(call: Call) -> Act:
            return Act(status=307, headers={"location": f"{target.address}{call.path}"})

        with Server(elsewhere) as first:
            yield first, target


def test_a_key_follows_no_redirect_to_another_server(
    redirected: tuple[Server, OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, target = redirected
    monkeypatch.setenv(host_variables(first.address)[0], "mine-alone")
    backend = load_backend(f"openai:judge@{first.address}", limits=LIMITS)
    assert isinstance(ask(backend), Reply)
    assert secrets_sent(first) == {"authorization: Bearer mine-alone"}
    assert target.chats == 1
    assert secrets_sent(target) == set()


def test_geminis_key_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    with GeminiServer() as target:

        def elsewhere(call: Call) -> Act:
            return Act(status=307, headers={"location": f"{target.address}{call.path}"})

        with Server(elsewhere) as first:
            monkeypatch.setenv(host_variables(first.address)[0], "mine-alone")
            assert isinstance(
                ask(load_backend(f"gemini:judge@{first.address}", limits=LIMITS)), Reply
            )
    assert secrets_sent(first) == {"x-goog-api-key: mine-alone"}
    assert target.chats == 1
    assert secrets_sent(target) == set()


def _preset(path: Path, **fields: str) -> str:
    path.write_text("\n".join(f"{name}: {value}" for name, value in fields.items()))
    return str(path)


def test_a_preset_names_the_variable_of_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_KEY", "mine-alone")
    with OpenAIServer() as server, OpenAIServer() as other:
        about = {"description": "d", "backend": f"openai:judge@{server.url}"}
        preset = _preset(tmp_path / "j.yaml", **about, api_key_env="TEAM_KEY")
        assert isinstance(ask(load_judge(preset, limits=LIMITS).backend), Reply)
        assert isinstance(ask(load_judge(f"{preset}@{other.url}", limits=LIMITS).backend), Reply)
        monkeypatch.delenv("TEAM_KEY")
        with pytest.raises(BackendError, match="set the environment variable TEAM_KEY"):
            ask(load_judge(preset, limits=LIMITS).backend)
    assert secrets_sent(server) == {"authorization: Bearer mine-alone"}
    assert secrets_sent(other) == set()
    preset = _preset(tmp_path / "j.yaml", **about, api_key_env="PATH")
    with pytest.raises(ConfigError, match="with KEY, TOKEN, SECRET or PASSWORD in it"):
        load_judge(preset)


def test_two_providers_in_one_run_have_a_key_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        OpenAIServer(policy=Policy(key="of-the-first")) as first,
        OpenAIServer(policy=Policy(key="of-the-second")) as second,
    ):
        monkeypatch.setenv(host_variables(first.url)[0], "of-the-first")
        monkeypatch.setenv(host_variables(second.url)[0], "of-the-second")
        for server in (first, second):
            assert isinstance(ask(load_backend(f"openai:judge@{server.url}", limits=LIMITS)), Reply)


@pytest.mark.parametrize(
    ("form", "header"),
    [
        ("openai:judge@{url}", "authorization: Bearer mine-alone"),
        (
            "lm-eval:local-chat-completions:model=judge,base_url={url}/chat/completions",
            "authorization: Bearer mine-alone",
        ),
        (
            "lm-eval:openai-chat-completions:model=judge,base_url={url}/chat/completions",
            "authorization: Bearer mine-alone",
        ),
        ("lm-eval:anthropic-chat-completions:model=judge,base_url={url}/messages", None),
    ],
)
def test_a_model_under_evaluation_is_asked_with_its_own_key_or_none(
    form: str, header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(call: Call) -> Act:
        message = Act(body=b'{"content": [{"type": "text", "text": "Yes."}]}')
        return message if call.path.endswith("/messages") else ok("Yes.")

    class Both(OpenAIServer):
        def _route(self, call: Call) -> Act:
            return answer(call) if call.path.endswith("/messages") else super()._route(call)

    write_items(Path("items.jsonl"), [Item(item_id="1", prompt="hello")])
    for key in (None, "mine-alone"):
        with Both(answer) as server:
            if key:
                monkeypatch.setenv(host_variables(server.url)[0], key)
            model = parse_model(form.format(url=server.url))
            decoding = Decoding(max_tokens=8)
            loaded = load_model(model, ModelOptions(), decoding)
            task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
            assert loaded.ask(task, [0])[0].text == "Yes."
        sent = header or "x-api-key: mine-alone"
        assert secrets_sent(server) == ({sent} if key else set())


def test_a_missing_key_is_told_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name)
    for kind, variable in (("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")):
        model = parse_model(f"lm-eval:{kind}-chat-completions:model=m,tokenizer_backend=None")
        with pytest.raises(BackendError, match=f"set the environment variable {variable}"):
            load_model(model, ModelOptions(), Decoding())


def test_an_evaluated_models_key_follows_no_redirect(
    redirected: tuple[Server, OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, target = redirected
    monkeypatch.setenv(host_variables(first.address)[0], "mine-alone")
    write_items(Path("items.jsonl"), [Item(item_id="1", prompt="hello")])
    decoding = Decoding(max_tokens=8)
    loaded = load_model(parse_model(f"openai:judge@{first.address}"), ModelOptions(), decoding)
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    assert loaded.ask(task, [0])[0].text == "4"
    assert target.chats == 1
    assert secrets_sent(target) == set()


def test_no_message_repeats_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: Mapping[str, str] = {**SECRETS, "MIPO_EVAL_KEY_SOMEWHERE_ORG": "mine-alone"}
    monkeypatch.setenv("MIPO_EVAL_KEY_SOMEWHERE_ORG", "mine-alone")
    from mipo_eval.models.server import clean

    said = clean(f"you sent {', '.join(keys.values())}")
    assert not any(key in said for key in keys.values())

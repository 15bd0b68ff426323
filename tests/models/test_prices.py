"""The price table: found by model and version, overridden by the user, wrong files explained."""

from pathlib import Path

import pytest

from mipo_eval import settings
from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Limits, Message, Reply, Request, Sampling
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.models.prices import FREE, Price, load_prices, price_of

PAPERS_JUDGES = ("gpt-4.1", "gpt-5.2", "gemini-2.5-flash", "gemini-3.1-flash-lite-preview")


@pytest.mark.parametrize("model", PAPERS_JUDGES)
def test_the_papers_judges_have_prices(model: str) -> None:
    price = load_prices().find(model)
    assert price is not None
    assert 0 < price.input < price.output


@pytest.mark.parametrize(
    ("model", "same_as"),
    [
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("openai/gpt-4.1", "gpt-4.1"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-3.1-flash-lite-preview", "gemini-3.1-flash-lite"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
    ],
)
def test_versions_cost_what_the_model_costs(model: str, same_as: str) -> None:
    prices = load_prices()
    assert prices.find(model) == prices.find(same_as) is not None


@pytest.mark.parametrize("model", ["gpt-4.1-pro", "gpt-6", "qwen2.5-14b", ""])
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert load_prices().find(model) is None


def test_published_prices() -> None:
    """From the providers' price lists, March 2026: dollars per million tokens."""
    listed = {
        "gpt-4.1": (2.00, 8.00),
        "gpt-4o-mini": (0.15, 0.60),
        "gpt-5.2": (1.75, 14.00),
        "gemini-2.5-pro": (1.25, 10.00),
        "gemini-3.1-flash-lite": (0.25, 1.50),
    }
    for model, (prompt, completion) in listed.items():
        assert load_prices().find(model) == Price(input=prompt, output=completion)


def test_a_provider_of_others_models_has_its_own_prices() -> None:
    prices = load_prices()
    url = "https://openrouter.ai/api/v1"
    assert prices.find("meta-llama/llama-3.3-70b-instruct", url=url) is not None
    assert prices.find("meta-llama/llama-3.3-70b-instruct") is None
    assert prices.find("gpt-4.1", url="https://mine.openai.azure.com/openai") is not None
    assert prices.find("mistral-large-latest", provider="mistral") is not None


def test_cost_by_hand() -> None:
    price = Price(input=2, output=8)
    assert price.cost(1_000_000, 0) == 2
    assert price.cost(1000, 500) == pytest.approx(0.006)
    request = Request(
        messages=(Message(role="user", content="héé"),), sampling=Sampling(max_tokens=10)
    )
    assert price.most(request) == pytest.approx((2 * (8 + 5) + 8 * 10) / 1e6)
    told = Reply(text="4", prompt_tokens=100, completion_tokens=1)
    assert price.of(told, request) == pytest.approx(208e-6)
    assert price.of(Reply(text="4"), request) == price.most(request)


def test_the_users_table_is_added_and_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "as_of: 2027-01-01\nmodels: {gpt-4.1: {input: 1, output: 4}, mine: {input: 9, output: 9}}\n"
    )
    monkeypatch.setenv(settings.PRICES, str(path))
    table = load_prices()
    assert table.find("gpt-4.1") == Price(input=1, output=4)
    assert table.find("mine") == Price(input=9, output=9)
    assert table.find("gpt-5.2") is not None
    assert table.as_of.endswith(" and your own of 2027-01-01")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: {}", "as_of: Field required"),
        ("as_of: 2026-01-01\nmodels: {m: {input: 1}}", r"models\.m\.output: Field required"),
        ("as_of: 2026-01-01\nmodels: {m: {input: -1, output: 1}}", "greater than or equal to 0"),
        ("as_of: 2026-01-01\nmodels: {m: {input: 1, output: 1, cached: 1}}", "cached: Extra"),
        ("[", "cannot be read"),
        ("", "the file: Input should be"),
    ],
)
def test_a_wrong_table_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(content)
    monkeypatch.setenv(settings.PRICES, str(path))
    with pytest.raises(ConfigError, match=message):
        load_prices()


def test_a_limit_on_the_cost_needs_a_price() -> None:
    limits = Limits(max_cost=1.0)
    OpenAIBackend("gpt-4.1", limits=limits)
    OpenAIBackend("anything", "http://localhost:8000", limits=limits)  # one's own server is free
    with pytest.raises(ConfigError, match="MIPO_EVAL_PRICES"):
        OpenAIBackend("unheard-of", "https://example.com/v1", limits=limits)


def test_ones_own_server_is_free_unless_ones_own_table_has_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert price_of("gpt-4.1", private=True) == FREE  # a model of that name, served at home
    assert price_of("gpt-4.1", private=False) == load_prices().find("gpt-4.1")
    assert price_of("unheard-of", private=False) is None
    path = tmp_path / "prices.yaml"
    path.write_text("as_of: 2027-01-01\nmodels: {passed-on: {input: 1, output: 4}}\n")
    monkeypatch.setenv(settings.PRICES, str(path))
    passed_on = Price(input=1, output=4)
    assert price_of("passed-on", private=True) == passed_on
    assert OpenAIBackend("passed-on", "http://localhost:8000").price == passed_on
    assert OpenAIBackend("gpt-4.1", "http://localhost:8000").price == FREE

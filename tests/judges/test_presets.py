"""What a judge's name means: presets, served presets, family, the user's files, backends."""

from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.judges.presets import family_of, load_judge, load_preset, preset_names
from mipo_eval.models.base import Limits, Sampling

SHIPPED = (
    "gemini-2.5-flash",
    "gemini-3.1-flash-lite",
    "gpt-4.1",
    "gpt-5.2",
    "llama-3-8b",
    "qwen2.5-14b",
)


def test_the_papers_judges_ship() -> None:
    assert preset_names() == (*SHIPPED, "family")
    for name in SHIPPED:
        preset = load_preset(name)
        assert preset.temperature == 0
        assert preset.prompt is None
        assert name.split("-")[0].rstrip("0123456789.") == preset.family


@pytest.mark.parametrize("name", ["gpt-4.1", "gpt-5.2"])
def test_an_api_preset_is_that_model_at_openai(name: str) -> None:
    judge = load_judge(name)
    assert judge.name == name
    assert judge.backend.identity == {
        "backend": "openai",
        "model": name,
        "url": "https://api.openai.com/v1",
    }


def test_a_gemini_preset_has_room_for_thoughts_that_cannot_be_switched_off() -> None:
    lite = load_judge("gemini-3.1-flash-lite")
    assert lite.backend.identity["model"] == "gemini-3.1-flash-lite-preview"
    assert lite.sampling.reasoning == "minimal"
    assert lite.sampling.max_tokens > 100
    assert load_judge("gemini-2.5-flash").sampling.reasoning == "none"


def test_a_preset_served_at_a_url() -> None:
    judge = load_judge("qwen2.5-14b@http://localhost:8000")
    assert judge.name == "qwen2.5-14b"
    assert judge.backend.identity == {
        "backend": "openai",
        "model": "Qwen/Qwen2.5-14B-Instruct",
        "url": "http://localhost:8000/v1",
    }
    assert judge.sampling == Sampling(logprobs=20)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", "qwen"),
        ("/models/my-qwen-dpo", "qwen"),
        ("meta-llama/Llama-3.2-3B-Instruct", "llama"),
        ("demo", None),
        ("qwen-distilled-llama", None),
        ("", None),
    ],
)
def test_family_of(model: str, family: str | None) -> None:
    assert family_of(model) == family


def test_family_judges_each_family_by_its_own() -> None:
    url = "@http://localhost:1"
    qwen = load_judge(f"family{url}", judged_model="Qwen/Qwen2.5-7B-Instruct")
    llama = load_judge(f"family{url}", judged_model="Llama-3.2-1B-Instruct")
    assert (qwen.name, llama.name) == ("qwen2.5-14b", "llama-3-8b")
    assert qwen.key == load_judge(f"qwen2.5-14b{url}").key
    with pytest.raises(ConfigError, match="knows qwen and llama models, and demo is neither"):
        load_judge("family", judged_model="demo")
    with pytest.raises(ConfigError, match="name a judge"):
        load_judge("family")


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_users_preset_with_a_prompt_beside_it(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("{query}{response}{preference} 1-5?")
    path = write(
        tmp_path / "mine.yaml",
        "description: mine\nbackend: openai:m@http://localhost:1\nmax_tokens: 3\n"
        "prompt: short.txt\n"
        "limits: {concurrency: 2, requests_per_minute: 60}\n",
    )
    judge = load_judge(path)
    assert (judge.name, judge.spec, judge.prompt.name) == ("mine", path, "short")
    assert judge.sampling.max_tokens == 3
    given = load_judge(path, limits=Limits(concurrency=9), prompt_file="rubric")
    assert given.prompt.name == "rubric"
    assert given.key != judge.key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: d", "backend: Field required"),
        ("description: d\nbackend: checker\ntemprature: 0", "temprature: Extra inputs"),
        ("description: d\nbackend: checker\nmax_tokens: 0", "max_tokens: Input should be"),
        ("description: d\nbackend: openai:m\nlimits: {speed: 1}", r"limits: .*'speed'"),
        (
            "description: d\nbackend: openai:m\noptions: {tp: 2}",
            "no option tp; known: api_key_env",
        ),
        ("description: d\nbackend: nothing:m", "unknown judge 'nothing:m'"),
        ("[", "cannot be read"),
        ("", "the file: Input should be"),
    ],
)
def test_a_wrong_preset_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_judge(write(tmp_path / "mine.yaml", text))


def test_an_unknown_judge_lists_presets_and_backends() -> None:
    with pytest.raises(ConfigError) as caught:
        load_judge("gpt-6")
    message = str(caught.value)
    assert all(name in message for name in (*SHIPPED, "family", "openai", "vllm", "checker"))
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load_judge("nowhere.yaml")


def test_each_protocol_has_its_prompt_and_its_key() -> None:
    judges = [
        load_judge("openai:m@http://localhost:1", protocol=protocol)
        for protocol in ("rubric", "pairwise", "pairwise-tie")
    ]
    assert [judge.prompt.name for judge in judges] == ["rubric", "pairwise", "pairwise-tie"]
    assert len({judge.key for judge in judges}) == 3


def test_batches_have_the_key_of_the_judge_that_asks_one_by_one() -> None:
    for name in ("gpt-4.1", "gemini-2.5-flash"):
        batched = load_judge(name, batch=True)
        assert "Batch" in type(batched.backend).__name__
        assert batched.key == load_judge(name).key
    with pytest.raises(ConfigError, match="these have one: openai, anthropic, gemini"):
        load_judge("checker", batch=True)

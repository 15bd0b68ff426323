"""What is recorded of a command holds no secret, and says the rest as it was."""

import pytest

from mipo_eval.environment import environment
from mipo_eval.keys import masked, masked_values


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("--store postgresql://ann:pw@db/x", "--store postgresql://ann:<key>@db/x"),
        ("postgresql+psycopg://u:p@s/w:rd@h:1/x", "postgresql+psycopg://u:<key>@h:1/x"),
        ("postgresql://h/db?password=zz&user=a", "postgresql://h/db?password=<key>&user=a"),
        ("openai:m@http://u:pw@h/v1", "openai:m@http://<key>@h/v1"),
        ("https://tok@h/v1", "https://<key>@h/v1"),
        ("lm-eval:x:auth_token=ab,n=1", "lm-eval:x:auth_token=<key>,n=1"),
        ("lm-eval:x:token='a b',n=1", "lm-eval:x:token='<key>',n=1"),
        ('lm-eval:x:{"api_key": "a b", "n": 1}', 'lm-eval:x:{"api_key": "<key>", "n": 1}'),
        ('{"headers": {"Authorization": "Basic a=="}}', '{"headers": {"Authorization": "<key>"}}'),
        ("--openai-api-key ab --n 1", "--openai-api-key <key> --n 1"),
        ("HF_TOKEN=abc", "HF_TOKEN=<key>"),
        ("a sk-proj-abcdefghij1234567890 b", "a <key> b"),
        (f"gsk_{'a' * 52}, glpat-{'b' * 20}, github_pat_{'c' * 40}", "<key>, <key>, <key>"),
        (f"postgresql://u:{'%41' * 400}@h/x", "postgresql://u:<key>@h/x"),
        ("'postgresql://u:it's@h/x', 'a@b'", "'postgresql://u:<key>@h/x', 'a@b'"),
        ('{"a": "postgresql://u:p@h","b": "c@d"}', '{"a": "postgresql://u:<key>@h","b": "c@d"}'),
        ("http://h/v1?key=ab&n=1", "http://h/v1?key=<key>&n=1"),
        ("https://h/x?X-Amz-Signature=ab&sig=cd", "https://h/x?X-Amz-Signature=<key>&sig=<key>"),
    ],
)
def test_secrets_are_masked(told: str, kept: str) -> None:
    assert masked(told) == kept == masked(kept)


@pytest.mark.parametrize(
    "told",
    [
        "--model openai:gpt-4.1@http://localhost:8000/v1 --decoding max_tokens=64,temperature=0",
        "--model claude@20250929 --suite hf://OWNER/NAME:SPLIT",
        "vllm:x@http://h:1,http://g:2/a@b",
        "postgresql://postgres@/db?host=/tmp/x",
        "lm-eval:hf:pretrained=sk-model,token=True,pad_token=x,tokenizer=y",
        "the token limit, a secret wish",
    ],
)
def test_what_is_no_secret_stays(told: str) -> None:
    assert masked(told) == told


def test_secrets_of_the_environment_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPO_EVAL_KEY_HOST", "correct horse")
    assert environment(command="judge correct horse x")["command"] == "judge <key> x"


def test_values_are_masked_by_their_names() -> None:
    told = {"model": "m", "auth_token": "abc", "urls": ["http://u:p@h"], "http://u:p@h": 4}
    kept = {"model": "m", "auth_token": "<key>", "urls": ["http://<key>@h"], "http://<key>@h": 4}
    assert masked_values(told) == kept

"""The in-process vLLM judge rates as the in-process transformers judge does."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from mipo_eval.models.base import Message, Reply, Request, Sampling
from mipo_eval.models.hf import HfBackend
from tests.vllm.server import CPU_SETTINGS
from tests.vllm.stories import widen

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TEXTS = [
    "Once upon a time, there was a little girl named Lily. She had",
    "Tom and his mom went to the park. How many dogs did they see? They saw",
    "The big red ball rolled down the hill and",
    "One day, a cat",
]
RATINGS = ("1", "2", "3", "4", "5")
NAMES = ("response_a", "response_b")

SCRIPT = """
import asyncio, json, sys
from mipo_eval.models.base import Failure, Message, Request, Sampling
from mipo_eval.models.spec import load_backend

async def main(model, asked):
    backend = load_backend(f"vllm:{model}", options={"max_model_len": 256, "dtype": "float32"})
    await backend.check()
    requests = [
        Request(
            messages=(Message(role="user", content=text),),
            choices=tuple(choices) if choices else None,
            sampling=Sampling(max_tokens=24, logprobs=5),
        )
        for text, choices in asked
    ]
    found = {}
    async for request, outcome in backend.answer(requests):
        found[id(request)] = (
            ["failure", outcome.kind, outcome.detail]
            if isinstance(outcome, Failure)
            else [outcome.text, outcome.finish_reason, outcome.prompt_tokens, outcome.logprobs]
        )
    print("RESULT" + json.dumps([found[id(request)] for request in requests]))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


def test_ratings_and_names_are_those_of_the_transformers_judge(
    shared_data: Path, tmp_path: Path, vllm_environment: Path
) -> None:
    model = widen(shared_data / "stories260k" / "hf", tmp_path / "stories260k")
    asked: list[tuple[str, tuple[str, ...] | None]] = [
        *((text, RATINGS) for text in TEXTS),
        *((text, NAMES) for text in TEXTS),
        (TEXTS[0], None),
        ("word " * 400, RATINGS),
    ]
    done = subprocess.run(
        [str(vllm_environment / "bin" / "python"), "-c", SCRIPT, str(model), json.dumps(asked)],
        env=os.environ | CPU_SETTINGS,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [row for row in done.stdout.splitlines() if row.startswith("RESULT")]
    *found, free, too_long = json.loads(line.removeprefix("RESULT"))

    requests = [
        Request(
            messages=(Message(role="user", content=text),),
            choices=choices,
            sampling=Sampling(max_tokens=24),
        )
        for text, choices in asked[: len(found)]
    ]

    async def by_transformers() -> dict[int, Reply]:
        answers = HfBackend(str(model)).answer(requests)
        return {id(one): reply async for one, reply in answers if isinstance(reply, Reply)}

    expected = asyncio.run(by_transformers())
    for one, (text, _, prompt_tokens, logprobs) in zip(requests, found, strict=True):
        # A name of several tokens can be spelled in several ways, and vLLM tries them all.
        assert text == expected[id(one)].text or one.choices == NAMES
        assert text in (one.choices or ())
        assert prompt_tokens == expected[id(one)].prompt_tokens
        assert len(logprobs) >= 5
    assert free[0]
    assert free[0] not in RATINGS
    assert free[1] == "length"
    assert too_long[:2] == ["failure", "bad_request"]
    assert too_long[2].endswith("has room for 256")

"""Other projects' own code, timed beside ours in processes of its own; see `Peer`.

Run by the interpreter whose packages are meant: .venv-bench has those that ours does without. A
line of JSON names a function below and its arguments; a line of JSON with `Spent` answers it.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

REPOSITORY = Path(__file__).parents[1]
OWN = REPOSITORY / ".venv-bench" / "bin" / "python"
MODEL = "gpt-judge"
"""inspect_ai and tiktoken want to know a model by the beginning of its name."""


class Spent(NamedTuple):
    """Seconds that something took."""

    wall: float
    processor: float
    """Of this process with all its threads."""


class Clock:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def spent(self, scale: float = 1.0) -> Spent:
        """Return what was spent so far, as often as that."""
        wall, processor = time.perf_counter() - self._wall, time.process_time() - self._processor
        return Spent(scale * wall, scale * processor)


def make_texts(n: int, seed: int = 0, words: int = 100) -> list[str]:
    """Return `n` texts of `words` words, drawn with a Zipf-like frequency as in natural text."""
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(5000)]
    weights = [1 / (rank + 1) for rank in range(len(vocabulary))]
    return [" ".join(draw.choices(vocabulary, weights, k=words)) for _ in range(n)]


def prompt(index: int) -> str:
    """Return one of a judge's questions, of a realistic length."""
    filler = "The reply uses short sentences and everyday words, as the reader asked. " * 12
    return f"{filler}\nReply {index}. Write one whole number from 1 to 5."


def fast_bleu(n: int, seed: int) -> Spent:
    """Self-BLEU-4 by fast-bleu, in C++; it takes words, so splitting is not counted."""
    from fast_bleu import SelfBLEU

    texts = [text.split() for text in make_texts(n, seed)]
    clock = Clock()
    SelfBLEU(texts, {"4": (0.25,) * 4}).get_score()
    return clock.spent()


def nltk(n: int, seed: int, part: int) -> Spent:
    """Self-BLEU-4 by nltk's sentence_bleu, each text against all others, timed on a part."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    texts = [text.split() for text in make_texts(n, seed)]
    smooth = SmoothingFunction().method1
    clock = Clock()
    for i in range(part):
        sentence_bleu(texts[:i] + texts[i + 1 :], texts[i], smoothing_function=smooth)
    return clock.spent(n / part)


def alpaca_eval(url: str, number: int, concurrency: int) -> Spent:
    """alpaca_eval's `openai_completions`, which its annotators call."""
    from alpaca_eval.decoders.openai import openai_completions

    texts = [f"<|im_start|>user\n{prompt(i)}\n<|im_end|>" for i in range(number)]
    clock = Clock()
    found = openai_completions(
        texts, MODEL, max_tokens=16, num_procs=concurrency, price_per_token=0,
        openai_api_base=url, openai_api_keys=["none"], client_config_path="none",
    )  # fmt: skip
    return _good(found["completions"], number, clock)


def inspect_ai(url: str, number: int, concurrency: int) -> Spent:
    """inspect_ai's `Model.generate`, which its graders call, all at once."""
    from inspect_ai.model import GenerateConfig, get_model

    config = GenerateConfig(max_connections=concurrency, max_tokens=16, temperature=0)
    model = get_model(f"openai-api/bench/{MODEL}", base_url=url, api_key="none", config=config)

    async def ask() -> list[str]:
        outputs = await asyncio.gather(*(model.generate(prompt(i)) for i in range(number)))
        return [output.completion for output in outputs]

    clock = Clock()
    return _good(asyncio.run(ask()), number, clock)


def lm_eval(url: str, number: int, concurrency: int) -> Spent:
    """lm-eval's API model with as many requests at once."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalChatCompletion

    model = LocalChatCompletion(
        base_url=f"{url}/chat/completions", model=MODEL, num_concurrent=concurrency, max_length=8192
    )
    settings = {"max_gen_toks": 16, "temperature": 0, "until": []}
    asked = [
        Instance("generate_until", {}, (model.apply_chat_template(_messages(i)), settings), i)
        for i in range(number)
    ]
    clock = Clock()
    return _good(model.generate_until(asked, disable_tqdm=True), number, clock)


def plain_async(url: str, number: int, concurrency: int) -> Spent:
    """What one writes by hand: the openai package's async client and a semaphore."""
    import openai

    async def ask() -> list[str]:
        free = asyncio.Semaphore(concurrency)
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def one(index: int) -> str:
                async with free:
                    answer = await client.chat.completions.create(
                        model=MODEL, messages=_messages(index), max_tokens=16, temperature=0
                    )
                return answer.choices[0].message.content or ""

            return await asyncio.gather(*(one(i) for i in range(number)))

    clock = Clock()
    return _good(asyncio.run(ask()), number, clock)


def threads(url: str, number: int, concurrency: int) -> Spent:
    """FastChat's judging loop (`gen_judgment.py --parallel`) with the present client."""
    import openai

    client = openai.OpenAI(base_url=url, api_key="none")

    def match(index: int) -> str:
        answer = client.chat.completions.create(
            model=MODEL, messages=_messages(index), max_tokens=16, temperature=0
        )
        return answer.choices[0].message.content or ""

    clock = Clock()
    with ThreadPoolExecutor(concurrency) as executor:
        return _good([*executor.map(match, range(number))], number, clock)


def _messages(index: int) -> Any:
    return [{"role": "user", "content": prompt(index)}]


def _good(texts: list[str], number: int, clock: Clock) -> Spent:
    spent = clock.spent()
    if [text.strip() for text in texts] != ["4"] * number:
        raise RuntimeError(f"{sum(text.strip() == '4' for text in texts)} of {number} answered")
    return spent


class Peer:
    """A process that runs functions of this file by an interpreter, as a context manager."""

    def __init__(self, python: Path | str = OWN) -> None:
        self._process: subprocess.Popen[str] | None = None
        if Path(python).exists():
            self._process = subprocess.Popen(
                [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY,
            )  # fmt: skip

    def spent(self, what: str, *arguments: object) -> Spent:
        """Return what a function took.

        Raises:
            RuntimeError: with its reason, where it fails.
        """
        if self._process is None:
            raise RuntimeError(f"{what}: not installed; `make bench` does that")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline() or '"its process ended"')
        if isinstance(found, str):
            raise RuntimeError(f"{what}: {found}")  # noqa: TRY004 - an answer, not an argument
        return Spent(*found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Do what standard input says, until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    known = (fast_bleu, nltk, alpaca_eval, inspect_ai, lm_eval, plain_async, threads)
    functions = {function.__name__: function for function in known}
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        try:
            found: Spent | str = functions[what](*arguments)
        except Exception as error:  # noqa: BLE001 - the table says what it is
            found = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

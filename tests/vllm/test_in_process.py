"""`--model vllm:FOLDER` runs vLLM inside the command and answers as `--model FOLDER` does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy

from tests.vllm.server import CPU_SETTINGS
from tests.vllm.stories import widen

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ITEMS = [
    {
        "item_id": f"story-{number}",
        "prompt": f"Once upon a time, there were {number} {animals}.",
        "context": f"{name} likes {animals}.",
        "preferences": ["Be short."],
        "reference": "They ran.",
    }
    for number, name, animals in [(2, "Lily", "dogs"), (3, "Tom", "birds"), (4, "Sue", "cats")]
]


def run_command(python: Path, model: str, store: Path, *more: str) -> dict[str, object]:
    """Evaluate ITEMS with the `mipo_eval` of an environment; return its JSON."""
    command = (python, "-m", "mipo_eval", "--model", model, "--suite", "items.jsonl", "--json")
    command += more
    environment = os.environ | CPU_SETTINGS | {"MIPO_EVAL_STORE": str(store)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, object] = json.loads(done.stdout)
    return result


def responses(store: Path) -> list[tuple[object, ...]]:
    engine = sqlalchemy.create_engine(f"sqlite:///{store}")
    with engine.connect() as connection:
        query = "SELECT item_key, text, finish_reason, prompt_tokens, response_tokens"
        rows = connection.execute(sqlalchemy.text(f"{query} FROM responses ORDER BY item_key"))
        found = [tuple(row) for row in rows]
    engine.dispose()
    return found


def test_same_checkpoint_same_greedy_responses(
    shared_data: Path, tmp_path: Path, vllm_environment: Path
) -> None:
    model = widen(shared_data / "stories260k" / "hf", tmp_path / "stories260k")
    Path("items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS))
    # Its end is part of the test: the engine's process must not keep the command alive.
    run = run_command(vllm_environment / "bin" / "python", f"vllm:{model}", tmp_path / "vllm.db")
    run_command(Path(sys.executable), str(model), tmp_path / "hf.db")
    assert run["n_items"] == len(ITEMS)
    assert responses(tmp_path / "vllm.db") == responses(tmp_path / "hf.db")


def test_a_draw_is_the_items_own_whatever_is_drawn_beside_it(
    shared_data: Path, tmp_path: Path, vllm_environment: Path
) -> None:
    model = widen(shared_data / "stories260k" / "hf", tmp_path / "stories260k")
    python, drawn = vllm_environment / "bin" / "python", ("--decoding", "temperature=1")
    twin = ITEMS[0] | {"item_id": "story-2-again"}  # the same prompt
    both = [*ITEMS, twin]
    Path("items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in both))
    run_command(python, f"vllm:{model}", tmp_path / "four.db", *drawn)
    Path("items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in both[:0:-1]))
    run_command(python, f"vllm:{model}", tmp_path / "three.db", *drawn)
    four, three = responses(tmp_path / "four.db"), responses(tmp_path / "three.db")
    assert len({text for _, text, *_ in four}) == 4
    assert len(three) == 3
    assert set(three) <= set(four)


def test_more_prompts_are_drawn_from_than_are_read_at_once(
    shared_data: Path, tmp_path: Path, vllm_environment: Path
) -> None:
    """On a processor vLLM ended where it read a prompt in parts and drew with a seed."""
    model = widen(shared_data / "stories260k" / "hf", tmp_path / "stories260k")
    long = "The dog saw a bird and the bird saw a dog. " * 8
    items = [ITEMS[0] | {"item_id": f"story-{i}", "prompt": f"{i} {long}"} for i in range(64)]
    Path("items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    drawn = ("--decoding", "temperature=1,max_tokens=8")
    run_command(vllm_environment / "bin" / "python", f"vllm:{model}", tmp_path / "vllm.db", *drawn)
    found = responses(tmp_path / "vllm.db")
    assert len(found) == len(items)
    assert sum(int(str(tokens)) for *_, tokens, _ in found) > 2 * 4096

"""The verifiable tasks against a real vLLM server, compared with the same model in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vllm.server import VllmServer
from tests.vllm.stories import widen

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TASKS = Path(__file__).parents[2] / "tasks"
LIMIT = 6


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "stories260k"
    return widen(shared_data / "stories260k" / "hf", folder)


@pytest.fixture(scope="module")
def server(model: Path, vllm_server: Callable[..., VllmServer]) -> VllmServer:
    return vllm_server(model)


def evaluate(shared_data: Path, tasks: list[str], engine: str, **model_args: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    metadata: dict[str, Any] = {"data_dir": str(shared_data), "limit": LIMIT}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    results: dict[str, Any] = simple_evaluate(
        model=engine,
        model_args=model_args,
        tasks=tasks,
        task_manager=manager,
        gen_kwargs={"max_gen_toks": 16},
        apply_chat_template=engine == "local-chat-completions",
        bootstrap_iters=0,
    )
    return results


def test_generated_answers(shared_data: Path, server: VllmServer) -> None:
    tasks = ["mipo_arc_easy", "mipo_arc_challenge", "mipo_mmlu"]
    url = f"{server.url}/chat/completions"
    arguments = {"model": server.model, "base_url": url, "tokenizer_backend": None}
    results = evaluate(shared_data, tasks, "local-chat-completions", **arguments)
    for task in tasks:
        samples = results["samples"][task]
        assert len(samples) == LIMIT
        assert all(sample["resps"][0][0].strip() for sample in samples)
        # A model of children's stories names no letter, and that is told apart from a wrong one.
        assert all(s["accuracy"] + s["unextracted_rate"] in {0, 1} for s in samples)


def test_likelihoods_are_those_of_the_same_model_here(
    shared_data: Path, server: VllmServer, model: Path
) -> None:
    tasks = ["mipo_arc_easy_letters", "mipo_arc_challenge_texts"]
    url = f"{server.url}/completions"
    served = evaluate(
        shared_data,
        tasks,
        "local-completions",
        model=server.model,
        base_url=url,
        tokenizer=str(model),
        tokenizer_backend="huggingface",
        add_bos_token=True,  # as the model in this process does; not this client's default
    )
    local = evaluate(shared_data, tasks, "hf", pretrained=str(model), device="cpu", dtype="float32")
    for task in tasks:
        pairs = zip(served["samples"][task], local["samples"][task], strict=True)
        for there, here in pairs:
            assert there["doc"]["item_key"] == here["doc"]["item_key"]
            assert there["accuracy"] == here["accuracy"]
            assert there["answer_entropy"] == pytest.approx(here["answer_entropy"], abs=1e-3)

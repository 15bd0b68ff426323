"""What our classes assume of lm-eval, each by itself: a new release says here what it changed."""

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest

NEEDED = {
    "lm_eval.evaluator:evaluate": [
        *("lm", "task_dict", "samples", "bootstrap_iters", "system_instruction"),
        *("apply_chat_template", "fewshot_as_multiturn", "log_samples"),
    ],
    "lm_eval.tasks:TaskManager": ["include_path", "include_defaults", "metadata"],
    "lm_eval.tasks:TaskManager.load": ["self"],
    "lm_eval.api.task:ConfigurableTask.override_metric": ["metric_name"],
    "lm_eval.api.task:ConfigurableTask.set_config": ["key", "value", "update"],
    "lm_eval.api.task:ConfigurableTask.build_all_requests": [
        *("samples", "system_instruction", "apply_chat_template", "fewshot_as_multiturn"),
        "chat_template",
    ],
    "lm_eval.models.huggingface:HFLM._create_model": ["self"],
    "lm_eval.models.huggingface:HFLM._detect_batch_size": ["requests", "pos"],
    "lm_eval.models.huggingface:HFLM.tok_batch_encode": ["strings"],
    "lm_eval.models.huggingface:HFLM.tok_decode": ["tokens", "skip_special_tokens"],
    "lm_eval.models.huggingface:HFLM._model_call": ["self"],
    "lm_eval.models.huggingface:HFLM._model_generate": ["context", "max_length", "stop"],
    "lm_eval.api.registry:get_model": ["model_name"],
    "lm_eval.models.api_models:TemplateAPI": ["model"],
    "lm_eval.models.api_models:JsonChatStr": ["prompt"],
    "lm_eval.api.model:CacheHook.add_partial": ["attr", "req", "res"],
    "lm_eval._cli.utils:split_top_level": ["args"],
    "lm_eval._cli.utils:handle_cli_value_string": ["arg"],
    "lm_eval.utils:handle_arg_string": ["arg"],
    "lm_eval.utils:set_torch_seed": ["seed"],
}
"""Name by module, and the parameters that we give or whose names a class of ours repeats."""


def _found(place: str) -> Any:
    module, _, path = place.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("place", NEEDED)
def test_it_is_there_and_takes_what_we_give(place: str) -> None:
    parameters = inspect.signature(_found(place)).parameters
    assert [name for name in NEEDED[place] if name not in parameters] == []


@pytest.mark.parametrize("name", ["header", "api_key"])
def test_the_key_and_the_headers_of_a_server_are_read_where_they_are_sent(name: str) -> None:
    """`Keyed` puts its own in the place of these two."""
    from lm_eval.models.api_models import TemplateAPI

    assert hasattr(inspect.getattr_static(TemplateAPI, name), "func")  # a cached property


def test_completions_are_shown_to_the_cache_at_once_and_in_order() -> None:
    """`CompletionHook` is told of each one there, before all of them are returned."""
    from lm_eval.models.huggingface import HFLM

    for method in ("generate_until", "_loglikelihood_tokens"):
        assert "self.cache_hook.add_partial(" in inspect.getsource(getattr(HFLM, method))


def test_vllm_has_the_methods_that_ours_replaces() -> None:
    """Read and not imported: vLLM itself is seldom there."""
    spec = importlib.util.find_spec("lm_eval.models.vllm_causallms")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    (model,) = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "VLLM"]
    taken = {
        one.name: [parameter.arg for parameter in one.args.args]
        for one in model.body
        if isinstance(one, ast.FunctionDef)
    }
    assert taken["_model_generate"][:4] == ["self", "requests", "generate", "sampling_params"]
    assert {"modify_gen_kwargs", "tok_encode"} <= taken.keys()

"""Chat templates in the shape of real ones: system prompts, dates, beginnings, refusals."""

import copy
import dataclasses
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import ChatTemplateError, ModelError
from mipo_eval.models.base import Message, Request, Sampling
from mipo_eval.models.chat import (
    chat_template_of,
    has_system_role,
    with_chat_form,
)
from mipo_eval.models.effort import Effort
from mipo_eval.models.hf import HfBackend
from mipo_eval.models.lm_eval import Decoding, ModelOptions, generation_spec, load_model
from mipo_eval.models.spec import parse_model
from mipo_eval.tasks.likelihood import ScoringModel
from mipo_eval.training.logprobs import Codec
from mipo_eval.training.trainer import load_tokenizer
from tests.small_models import BOS, make_model
from tests.training.jobs import job

TEMPLATES = Path(__file__).parents[1] / "templates"
ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is tea?"},
    {"role": "assistant", "content": "A drink."},
    {"role": "user", "content": "Hot?"},
]
HAS_SYSTEM_ROLE = {"llama3": True, "qwen": True, "gemma": False, "mistral": False, "chatml": False}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny checkpoint for each template; all but Qwen's tokenizer begin every text."""
    folder = tmp_path_factory.mktemp("templates")
    return {
        name: make_model(
            folder / name,
            context=1024,
            template=(TEMPLATES / f"{name}.jinja").read_text(),
            bos=name != "qwen",
        )
        for name in HAS_SYSTEM_ROLE
    }


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return with_chat_form(AutoTokenizer.from_pretrained(folder))


def _text(folder: Path, messages: list[dict[str, str]], **how: Any) -> str:
    how = {"add_generation_prompt": True} | how
    return str(_tokenizer(folder).apply_chat_template(messages, tokenize=False, **how))


@pytest.mark.parametrize(("name", "has"), HAS_SYSTEM_ROLE.items())
def test_a_system_prompt_reaches_every_model(models: dict[str, Path], name: str, has: bool) -> None:
    assert has_system_role(chat_template_of(parse_model(str(models[name])))) is has
    text = _text(models[name], ASKED)
    assert text.count("Be brief.") == 1
    assert ("Be brief.\n\nWhat is tea?" in text) is not has


@pytest.mark.parametrize(
    ("template", "has"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", True),
        ("{{ messages[0]['content'] }}", True),
        ("{{ messages[-1]['content'] }}", False),
        (
            "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}"
            "{{ m['content'] }}{%- endgeneration %}{% else %}{{ m['content'] | tojson }}"
            "{% endif %}{% endfor %}",
            True,
        ),
        ("{{ messages | something_new }}", True),  # not known here: the tokenizer will tell
        ("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}", True),
    ],
)
def test_who_has_a_system_role(template: str, has: bool) -> None:
    assert has_system_role(template) is has


def test_the_date_stands_still(models: dict[str, Path]) -> None:
    text = _text(models["llama3"], ASKED)
    assert "Today Date: 26 Jul 2024" in text
    assert f"{datetime.now().astimezone():%d %b %Y}" not in text
    assert "Today Date: 1 May 2025" in _text(models["llama3"], ASKED, date_string="1 May 2025")


def test_a_prompt_is_the_same_another_day(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped training or evaluation goes on with the prompts it began with."""
    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2031, 2, 3, tzinfo=tz)

    raw = AutoTokenizer.from_pretrained(models["llama3"])
    before = [Codec.of(_tokenizer(models["llama3"])).prompt(ASKED), _text(models["llama3"], ASKED)]
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert "03 Feb 2031" in raw.apply_chat_template(ASKED, tokenize=False)
    after = [Codec.of(_tokenizer(models["llama3"])).prompt(ASKED), _text(models["llama3"], ASKED)]
    assert after == before


def test_keys_of_models_with_a_date_in_their_prompt_are_new(models: dict[str, Path]) -> None:
    def spec(name: str, **options: str) -> dict[str, Any]:
        model = parse_model(str(models[name]))
        return generation_spec(model, ModelOptions(**options), Decoding(), asking={"form": "x"})

    dated = {name: spec(name).get("chat_date") for name in models}
    assert dated == dict.fromkeys(models) | {"llama3": "2024-07-26"}
    assert spec("qwen", chat_template="{{ strftime_now('%Y') }}")["chat_date"] == "2024-07-26"
    # Of this one, prompts began with a token that its template does not write.
    assert {name for name in models if "begins_with" in spec(name)} == {"chatml"}
    # What old stores hold of all others keeps its key.
    assert set(spec("qwen")) == {"model", "chat_template", "engine", "asking", "decoding"}


OTHERS = {
    "base": "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
    "plain": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    "dated": "{{ bos_token }}{{ strftime_now('%d %B %Y') }}{% for m in messages %}"
    "<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    "phi": "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "switch": "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    "{% if thinking is defined and thinking %}<think>\n{% else %}</think>{% endif %}",
}
"""Templates written for the kind of habit they have."""


@pytest.mark.parametrize("told", [{}, {"enable_thinking": False}, {"thinking": True}])
@pytest.mark.parametrize("name", [*HAS_SYSTEM_ROLE, *OTHERS])
def test_a_prompt_is_the_same_wherever_it_is_read(
    models: dict[str, Path], name: str, told: dict[str, Any], tmp_path: Path
) -> None:
    from trl.data_utils import apply_chat_template

    folder = models.get(name) or make_model(tmp_path, template=OTHERS[name], bos=True, context=1024)
    effort = Effort(template=told)
    ids: dict[str, list[int]] = {}
    plan = dataclasses.replace(job(folder, tmp_path, []), told=effort.template_arguments())
    tokenizer = load_tokenizer(plan)
    ids["trained"] = Codec.of(tokenizer).prompt(ASKED)
    ids["by trl"] = tokenizer.apply_chat_template(
        conversation=[ASKED], add_generation_prompt=True, return_dict=True
    )["input_ids"][0]
    text = apply_chat_template({"prompt": ASKED}, tokenizer)["prompt"]
    ids["for trl's judges"] = tokenizer(text, add_special_tokens=False)["input_ids"]
    messages = tuple(Message(**turn) for turn in ASKED)
    scoring = ScoringModel.load(str(folder))
    with_chat_form(scoring.tokenizer, **told)
    ids["scored"] = scoring.prompt_ids(messages)
    request = Request(messages=messages, sampling=Sampling(effort=effort))
    judged = HfBackend(str(folder))._prompt(request, 1, None)
    assert isinstance(judged, list)
    ids["judged"] = judged
    how = ModelOptions(batch_size=1, effort=effort)
    lm = load_model(parse_model(str(folder)), how, Decoding())._lm
    evaluated, _ = lm.tok_batch_encode([lm.apply_chat_template(ASKED)])
    ids["evaluated and drawn"] = evaluated[0].tolist()
    assert len({tuple(found) for found in ids.values()}) == 1, ids
    begins = ids["trained"].count(tokenizer.convert_tokens_to_ids(BOS))
    assert begins == (0 if name in {"qwen", "chatml", "plain", "phi"} else 1)


def test_a_turn_that_has_begun_is_left_open(models: dict[str, Path]) -> None:
    begun = [ASKED[1], {"role": "assistant", "content": "Tea is "}]
    for name in ("llama3", "qwen", "chatml"):
        how = {"add_generation_prompt": False, "continue_final_message": True}
        assert _text(models[name], begun, **how).rstrip().endswith("Tea is")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([ASKED[2], ASKED[1]], "roles must alternate"),
        ([ASKED[1], ASKED[3]], "roles must alternate"),
        ([{"role": "user", "content": None}], "refuses a conversation: "),
    ],
)
def test_what_a_template_refuses_is_one_line(
    models: dict[str, Path], messages: list[Any], reason: str
) -> None:
    with pytest.raises(ChatTemplateError, match=reason) as refused:
        _text(models["mistral"], messages)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, ModelError)


def test_a_tokenizer_can_be_copied_and_saved(models: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = _tokenizer(models["gemma"])
    text = tokenizer.apply_chat_template(ASKED, tokenize=False)
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert other.apply_chat_template(ASKED, tokenize=False) == text
    tokenizer.save_pretrained(tmp_path)
    saved = (tmp_path / "chat_template.jinja").read_text()
    assert saved == (TEMPLATES / "gemma.jinja").read_text()

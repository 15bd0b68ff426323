"""MIPO on weights nobody here made, with pairs people wrote: what is learned carries over."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from mipo_eval.records import Item
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.recipes import DpoSettings
from mipo_eval.training.trainer import TrainingExample
from tests.training.jobs import Curves, job

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %}\n{% endif %}{% endfor %}"
)
HELD_OUT, TRAINED = 32, 48


def short_pairs(file: Path) -> list[TrainingExample]:
    """Questions with a persona, what it prefers and what it does not; the short ones, shuffled."""
    found = []
    for number, row in enumerate(json.loads(file.read_text("utf-8"))):
        if max(len(row["chosen"]), len(row["rejected"])) > 130 or len(row["prompt"]) > 160:
            continue
        item = Item(item_id=str(number), prompt=row["prompt"], context=row["ground_truth_persona"])
        messages = ({"role": "user", "content": f"{item.context} {item.prompt}"},)
        pair = {"chosen": row["chosen"], "rejected": (row["rejected"],)}
        found.append(TrainingExample(item=item, prompt=messages, bare_prompt=messages, **pair))
    random.Random(0).shuffle(found)
    return found


@pytest.mark.slow
def test_held_out_pairs_of_real_text_are_ranked_better(shared_data: Path, tmp_path: Path) -> None:
    pairs = short_pairs(shared_data / "psoups_alignx" / "student_phd.json")
    curves = Curves()
    plan = job(
        shared_data / "stories260k" / "hf",
        tmp_path,
        pairs[HELD_OUT : HELD_OUT + TRAINED],
        report=curves,
        learning_rate=3e-4,
        batch_size=8,
        micro_batch_size=8,
        epochs=2,
    )
    plan = dataclasses.replace(
        plan, held_out=pairs[:HELD_OUT], chat_template=TEMPLATE, save_steps=6
    )
    train_dpo(plan, DpoSettings())
    trained, held_out = curves.of("loss"), curves.of("held_out_loss")
    ranking = curves.of("held_out_ranking_accuracy")
    assert trained[0] == held_out[0] == pytest.approx(0.6931, abs=1e-4)
    assert sum(trained[-4:]) / 4 < 0.4
    assert held_out[-1] < 0.55
    # Policy and reference are one, and a tie is no success; but for the last bit of a sum.
    assert ranking[0] < 0.1
    assert ranking[-1] > 0.65

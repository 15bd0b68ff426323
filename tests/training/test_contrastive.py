"""Contrastive training: groups, gradients, resuming."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.training.contrastive import (
    _fitting,
    contrastive_measures,
    grouped,
    train_contrastive,
)
from mipo_eval.training.groups import GroupPolicy
from mipo_eval.training.logprobs import Codec, add_likelihood_head
from mipo_eval.training.losses import info_nce_loss, sami_loss
from mipo_eval.training.packed import TokenGroup, choose_reader
from mipo_eval.training.pairs import with_other_contexts
from mipo_eval.training.recipes import ContrastiveSettings
from mipo_eval.training.trainer import load_policy
from tests.training.jobs import Curves, example, examples, job, weights


@pytest.mark.parametrize(
    ("contexts", "k", "sizes"),
    [(4, 4, [4]), (4, 2, [2, 2]), (3, 4, [3]), (4, 3, [3]), (3, 2, [2]), (1, 2, [])],
)
def test_groups_are_of_one_prompt(contexts: int, k: int, sizes: list[int]) -> None:
    found = grouped(examples(prompts=2, contexts=contexts), contexts=k, seed=0)
    assert [len(group) for group in found.groups] == sizes * 2
    for group in found.groups:
        assert len({one.item.prompt for one in group}) == 1
        assert len({one.item.context for one in group}) == len(group)
    assert sum(sizes) * 2 + sum(found.dropped.values()) == contexts * 2


def test_a_context_never_meets_an_equal_one() -> None:
    made = [
        example("Why?", "Be short.", "So."),
        example("Why?", " Be  short. ", "Because."),
        example("Why?", "", "Hm."),
        example("Why?", "I am nine.", "Look!"),
    ]
    found = grouped(made, contexts=4, seed=0)
    assert [len(group) for group in found.groups] == [2]
    assert found.dropped == {"no context": 1, "a context of this prompt again": 1}


def test_groups_depend_on_seed_and_prompt_not_on_order() -> None:
    made = examples(prompts=3, contexts=4)
    groups = grouped(made, contexts=2, seed=5).groups
    assert grouped(made[::-1], contexts=2, seed=5).groups == groups
    assert grouped(made[8:], contexts=2, seed=5).groups == groups[4:]
    assert any(grouped(made, contexts=2, seed=seed).groups != groups for seed in range(4))


def test_an_example_without_a_response_is_refused() -> None:
    with pytest.raises(DataError, match=r"item Why/Be short\. has no response: sample responses"):
        grouped([example("Why", "Be short.")], contexts=2, seed=0)


def test_prompts_are_filled_up_with_other_users_contexts() -> None:
    users = ["Be short.", "I am nine.", "I like birds."]
    items = [example(f"What {n}?", user).item for n, user in enumerate(users)]
    found = with_other_contexts(items, contexts=3, seed=0)
    assert found[:3] == items
    assert len(found) == 9
    assert len({item.item_id for item in found}) == 9
    for item in items:
        assert {one.context for one in found if one.prompt == item.prompt} == set(users)
    assert with_other_contexts(found, contexts=3, seed=0) == found
    with pytest.raises(
        DataError, match="3 training items have only 3 different contexts, too few for"
    ):
        with_other_contexts(items, contexts=4, seed=0)


def test_real_prompts_of_one_context_each_are_filled_up(shared_data: Path) -> None:
    """SAMI's own summaries: 250 posts, each under one of two constitutions."""
    file = "base-mistral-opus-constitution-temperature-0.0.json"
    rows = json.loads((shared_data / "sami_tldr" / file).read_text())
    made = [
        example(rows["question"][at], rows["constitution"][at], rows["response"][at])
        for at in rows["question"]
    ]
    alone = grouped(made, contexts=2, seed=0)
    assert (alone.groups, sum(alone.dropped.values())) == ([], 250)
    filled = with_other_contexts([one.item for one in made], contexts=2, seed=0)
    pairs = grouped(
        [example(one.prompt, one.context, "Yes.") for one in filled], contexts=2, seed=0
    )
    assert len(pairs.groups) == 250
    assert pairs.dropped == {}


def test_settings_need_two_contexts() -> None:
    with pytest.raises(ValueError, match="contexts is 1"):
        ContrastiveSettings(contexts=1)


def test_outcome_by_hand() -> None:
    told = torch.tensor([[0.0, -5.0], [-4.0, 0.0]])
    half = torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -2.0, -9.0], [-3.0, -4.0, -2.0]])
    found = contrastive_measures([told, half], "sami")
    assert found.retrieval.item() == pytest.approx((1 + 1 / 3) / 2)
    expected = (sami_loss(told) + sami_loss(half)) / 2
    assert found.loss.item() == pytest.approx(expected.item())
    bound = -(info_nce_loss(told) + info_nce_loss(half)) / 2
    assert found.mi_lower_bound.item() == pytest.approx(bound.item())


@pytest.fixture(scope="module")
def policy(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    out = tmp_path_factory.mktemp("none")
    model, tokenizer = load_policy(job(tiny_model, out, []))
    add_likelihood_head(model)
    return model.double(), tokenizer


def one_by_one(model: Any, group: tuple[TokenGroup, ...]) -> Tensor:
    """The (K, K) matrix from K x K passes, without padding, packing or a likelihood head."""
    rows = []
    for row in group:
        for response in row.responses:
            tokens = torch.tensor([[*row.prompt, *response]])
            steps = model(tokens).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
            rows.append(steps.gather(1, torch.tensor(response)[:, None]).sum())
    return torch.stack(rows).reshape(len(group), len(group))


@pytest.mark.parametrize("loss", ["info_nce", "sami"])
@pytest.mark.parametrize("attention", ["auto", "rows"])
def test_gradients_are_those_of_separate_passes(
    policy: tuple[Any, Any], loss: Any, attention: Any
) -> None:
    model, tokenizer = policy
    codec = Codec.of(tokenizer)
    groups = []
    for made in grouped(examples(prompts=2, contexts=3), contexts=3, seed=0).groups:
        responses = tuple(tuple(codec.response(one.chosen or "")) for one in made)
        groups.append(
            tuple(
                TokenGroup(item_id="", prompt=tuple(codec.prompt(one.prompt)), responses=responses)
                for one in made
            )
        )
    groups[1] = tuple(
        TokenGroup(item_id="", prompt=row.prompt, responses=row.responses[:2])
        for row in groups[1][:2]
    )  # a smaller group in the same batch
    reader, note = choose_reader(model, tokenizer, [*groups[0], *groups[1]], attention)
    assert note is None
    batch = reader.collate([*groups[0], *groups[1]])
    packed = reader.logprobs(model, batch)
    squares = [packed[:3], packed[3:, :2]]
    contrastive_measures(squares, loss).loss.backward()
    together = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    apart = [one_by_one(model, group) for group in groups]
    for ours, theirs in zip(squares, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    contrastive_measures(apart, loss).loss.backward()
    for name, value in model.named_parameters():  # norms are computed in float32 within
        size = float(value.grad.abs().max())
        assert size > 1e-4
        torch.testing.assert_close(together[name], value.grad, rtol=1e-5, atol=1e-5 * size)
    model.zero_grad()


@pytest.mark.parametrize("loss", ["info_nce", "sami"])
def test_training_raises_the_bound(tiny_model: Path, tmp_path: Path, loss: Any) -> None:
    curves = Curves()
    made = examples()
    outcome = train_contrastive(
        job(tiny_model, tmp_path / "out", made, report=curves, epochs=5),
        ContrastiveSettings(loss=loss, contexts=3),
    )
    assert (outcome["groups"], outcome["responses"], outcome["dropped"]) == (4, 12, {})
    assert outcome["notes"] == ()
    bound = curves.of("mi_lower_bound")
    assert len(bound) == 10
    assert bound[-1] > bound[0] + 0.3
    assert curves.of("loss")[-1] < curves.of("loss")[0] - 0.3
    assert abs(curves.of("kl")[0]) < 1e-4  # before the first step the policy is the reference
    assert abs(curves.of("kl")[-1]) > 1e-2
    assert curves.of("tokens_per_second")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "chat_template.jinja").is_file()


def test_killed_and_resumed_ends_with_equal_weights(tiny_model: Path, tmp_path: Path) -> None:
    settings = ContrastiveSettings(loss="sami", contexts=3)

    def run(name: str, **how: Any) -> None:
        made = examples()
        train_contrastive(
            job(tiny_model, tmp_path / name, made, save_steps=2, epochs=3, **how), settings
        )

    run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("killed", report=Curves(stop_at=3))
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    resumed = Curves()
    run("killed", report=resumed)
    assert min(step for step, _ in resumed.points) == 3
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(killed[name], value, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_stops_the_training(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"loss is nan at step \d.*lower optimization.learning"):
        train_contrastive(
            job(tiny_model, tmp_path / "out", examples(), learning_rate=1e30, epochs=3),
            ContrastiveSettings(contexts=3),
        )
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_held_out_groups_are_measured(tiny_model: Path, tmp_path: Path) -> None:
    import dataclasses

    curves = Curves()
    made = examples(prompts=4)
    one = job(tiny_model, tmp_path / "out", made[:6], report=curves)
    train_contrastive(
        dataclasses.replace(one, held_out=made[6:], save_steps=1), ContrastiveSettings(contexts=3)
    )
    assert len(curves.of("held_out_loss")) == 2
    assert len(curves.of("held_out_mi_lower_bound")) == 2


def test_prompts_with_one_context_each_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prompt has two contexts.*4 x no other context"):
        train_contrastive(
            job(tiny_model, tmp_path / "out", examples(prompts=4, contexts=1)),
            ContrastiveSettings(),
        )


def test_responses_too_long_for_the_model_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    long = [example("What is tea 0?", "Be kind.", "Tea. " * 300)]
    outcome = train_contrastive(
        job(tiny_model, tmp_path / "out", examples(prompts=2) + long), ContrastiveSettings()
    )
    assert outcome["groups"] == 2
    assert outcome["dropped"] == {"too long": 1}
    assert json.loads(json.dumps(outcome))["dropped"] == {"too long": 1}, "it is stored"


def test_a_batch_that_cannot_be_split_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size 3 is not a multiple of micro_batch_size 2"):
        train_contrastive(
            job(tiny_model, tmp_path / "o", examples(), batch_size=3, micro_batch_size=2),
            ContrastiveSettings(),
        )


def test_a_group_that_is_too_long_is_left_out_alone(policy: tuple[Any, Any]) -> None:
    """Each of its responses has room behind its own context, and one has none behind the other."""
    model, tokenizer = policy
    made = [
        example("A?", "I am nine. " * 20, "Yes."),
        example("A?", "Short.", "Yes. " * 40),
        example("B?", "Short.", "Yes."),
        example("B?", "Kind.", "No."),
    ]
    codec = Codec.of(tokenizer)
    sizes = [len(codec.prompt(m.prompt)) + len(codec.response(m.chosen or "")) for m in made]
    kept = _fitting(
        made,
        GroupPolicy(model, tokenizer, codec, max(sizes)),
        ContrastiveSettings(contexts=2),
        seed=0,
    )
    assert [len(group) for group in kept.groups] == [2]
    assert kept.dropped == {"too long behind another's context": 2}

"""Every recipe loads; layers, single values, and what is refused."""

import pytest
import yaml

from mipo_eval.errors import ConfigError
from mipo_eval.training.identity import deciding
from mipo_eval.training.recipes import (
    ALGORITHMS,
    load_method,
    load_recipe,
    make_recipe,
    merge,
    nested,
    recipe_dict,
    recipe_names,
    recipe_yaml,
)

ROWS = {
    "dpo",
    *(f"mipo-{how}" for how in ("missing", "random", "reshuffle", "random-strings")),
    *("sft", "sft-revision", "sft-gt", "sft-solutions", "info-nce", "sami"),
    *("ppo-mi", "rlaif", "rlaif-mi", "rlaif-gt", "rlvr"),
}


def test_there_is_a_recipe_for_every_reported_row() -> None:
    assert set(recipe_names()) == ROWS


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_recipe_is_what_its_yaml_says(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.name, bool(recipe.about)) == (name, True)
    assert (recipe.pairs is not None) == (recipe.learns_from in {"pairs", "revision"})
    assert make_recipe(recipe_dict(recipe)) == recipe
    assert make_recipe(yaml.safe_load(recipe_yaml(recipe))) == recipe
    assert recipe.optimization.batch_size == 4  # appendix E
    assert recipe.optimization.learning_rate in {1e-7, 5e-7}  # appendix E


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_there(algorithm: str) -> None:
    assert callable(load_method(algorithm))
    ALGORITHMS[algorithm]()


@pytest.mark.parametrize("name", ["ppo-mi", "rlaif", "rlaif-mi", "rlaif-gt", "rlvr"])
def test_rewards_also_run_under_grpo(name: str) -> None:
    recipe = load_recipe(name, overrides=["algorithm=grpo"])
    assert recipe.settings.reward == load_recipe(name).settings.reward


def test_mipo_recipes_differ_in_their_negatives_only() -> None:
    for negatives in ("random", "reshuffle", "random-strings"):
        other = recipe_dict(load_recipe(f"mipo-{negatives}"))
        first = recipe_dict(load_recipe("mipo-missing"))
        assert other["pairs"] == {"negatives": negatives, "n_negatives": 1}
        changed = {key for key in first if first[key] != other[key]}
        assert changed == {"name", "about", "pairs"}


def test_layers_go_over_each_other() -> None:
    mine = {"optimization": {"epochs": 3, "learning_rate": "1e-6"}, "settings": {"beta": 0.2}}
    recipe = load_recipe("mipo-random", config=mine, overrides=["lr=5e-7", "pairs.n_negatives=3"])
    assert recipe.optimization.epochs == 3
    assert recipe.optimization.learning_rate == 5e-7
    assert recipe.optimization.batch_size == 4
    assert recipe.settings.beta == 0.2
    assert recipe.pairs is not None
    assert (recipe.pairs.negatives, recipe.pairs.n_negatives) == ("random", 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lrx=1", r"unknown lrx; known in a recipe: name, about, algorithm"),
        ("optimization.lrr=1", r"unknown optimization.lrr; known in optimization: learning_rate"),
        ("settings.beta=1", r"unknown settings.beta; known in settings: none"),
        ("optimization.batch_size=four", r"optimization.batch_size: input should be a valid int"),
        ("optimization=3", r"optimization contains 3: write key: value"),
        ("lr=0", r"optimization.learning_rate is 0: it must be above 0"),
        ("items.limit=0", r"items.limit is 0: it must be above 0"),
        ("items.validation=1", r"items.validation is 1: it must be between 0 and 1"),
        ("optimization.betas=[0.9, 1]", r"optimization.betas are \[0.9, 1.0\]: both must be in"),
        ("optimization.final_share=0.1", r"at which optimization.schedule=cosine ends"),
        ("optimization.lora_alpha=0", r"optimization.lora_alpha is 0: it must be above 0"),
        ("sampling.top_p=0", r"sampling.top_p in \(0, 1\]"),
        ("pairs.negatives=missing", r"sft learns from own: it makes no pairs"),
        ("learns_from=pairs", r"sft learns from pairs: it needs the key pairs"),
        ("algorithm=[dpo]", r"unknown algorithm \['dpo'\]"),
        ("algorithm=adam", r"unknown algorithm 'adam'; known: dpo, sft"),
        ("optimization.epochs", r"write key=value, e.g. lr=5e-7"),
        ("lr=[1", r"the value cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_known(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("sft", overrides=[override])


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown method 'ipo'; known: dpo, info-nce, mipo-mis"):
        load_recipe("ipo")


def test_merging_goes_key_by_key() -> None:
    assert nested("a.b.c", 1) == {"a": {"b": {"c": 1}}}
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, nested("a.b", 5)) == {
        "a": {"b": 5, "c": 2},
        "d": 3,
    }


def test_a_recipe_says_how_the_model_is_to_think() -> None:
    plain = recipe_dict(load_recipe("sft"))
    assert "thinking" not in plain["sampling"]  # as it was before: ids of trainings stay
    said = "enable_thinking=true,thinking_budget=500"
    recipe = load_recipe("sft", overrides=[f"sampling.thinking={said}"])
    assert recipe.sampling.thinking == said
    assert make_recipe(recipe_dict(recipe)) == recipe


def test_a_system_prompt_is_prose_whatever_yaml_would_read() -> None:
    told = "Be kind: always. 5"
    recipe = load_recipe("sft", overrides=[f"system={told}"])
    assert recipe.system == told
    assert recipe_dict(recipe)["system"] == told
    assert make_recipe(recipe_dict(recipe)) == recipe
    # Trainings without one are named as they always were.
    assert "system" not in recipe_dict(load_recipe("sft"))


def test_a_training_keeps_its_name_where_nothing_changed() -> None:
    """What the digest was made of before batches counted pairs."""
    former = {
        "name": "mipo-random",
        "algorithm": "dpo",
        "learns_from": "pairs",
        "items": {"limit": None, "validation": 0.1},
        "sampling": {
            "model": None,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": None,
            "batch_size": None,
        },
        "pairs": {"negatives": "random", "n_negatives": 1},
        "optimization": {
            "learning_rate": 1e-7,
            "epochs": 1.0,
            "batch_size": 4,
            "micro_batch_size": 1,
            "schedule": "linear",
            "warmup_ratio": 0.0,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "precision": "bf16",
            "gradient_checkpointing": False,
            "lora_rank": None,
            "max_length": None,
        },
        "settings": {"beta": 0.1, "attention": "auto"},
        "chat_template": None,
    }
    assert deciding(load_recipe("mipo-random")) == former
    three = ["pairs.n_negatives=3"]
    in_prompts = load_recipe("mipo-random", overrides=[*three, "settings.batch_of=prompts"])
    assert deciding(in_prompts) == former | {"pairs": {"negatives": "random", "n_negatives": 3}}
    in_pairs = deciding(load_recipe("mipo-random", overrides=three))
    assert in_pairs["settings"]["batch_of"] == "pairs"


@pytest.mark.parametrize(
    ("override", "decides"),
    [
        ("optimization.betas=[0.9, 0.95]", True),
        ("optimization.betas=[0.9, 0.999]", False),
        ("optimization.lora_alpha=16", True),
        ("settings.reward_clip=10", True),
        ("settings.rates=preferences", True),
        ("save_steps=7", False),
    ],
)
def test_what_is_set_names_the_training(override: str, decides: bool) -> None:
    plain = deciding(load_recipe("rlaif"))
    assert (deciding(load_recipe("rlaif", overrides=[override])) != plain) == decides


def test_steps_are_counted_as_batches_are() -> None:
    def steps(method: str, *overrides: str) -> int:
        return load_recipe(method, overrides=overrides).steps(12, 36)

    assert (steps("mipo-random"), steps("mipo-random", "settings.batch_of=prompts")) == (9, 3)
    assert (steps("sft"), steps("sami")) == (3, 1)

"""Recipes: what `mipo-eval train METHOD` does, one readable YAML file per reported row.

A recipe is read in layers: the shipped file of the method, then the user's (`--config`), then
single values (`--set optimization.learning_rate=5e-7`). Every key must be known.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from mipo_eval.errors import ConfigError
from mipo_eval.plugins import plugin_of
from mipo_eval.settings import parse_yaml
from mipo_eval.training.rounds import RoundSettings, check_rounds

LearnsFrom = Literal["pairs", "own", "revision", "answer", "reference", "file", "prompts"]
"""What is made before the training: preference pairs; the model's own responses; those rewritten
beside a bad one, or after the true final answer; the data set's solutions; the pairs of a file; or
nothing, since the method draws responses as it goes."""

NEGATIVES = ("missing", "random", "reshuffle", "random-strings")
"""Where rejected responses come from; see `pairs.py`. Plug-ins know others."""

AttentionChoice = Literal["auto", "split", "dense", "rows"]
"""How responses of one prompt are read: packed behind it in a form of `packed.py`, or "rows", each
behind its own copy. "auto" packs where the model can, and says where it cannot."""

BatchOf = Literal["pairs", "prompts"]
"""What a batch of DPO counts; N negatives of a prompt are N pairs."""

REWARDS = ("mi", "judge", "judge+mi", "exact", "judge-gt")
"""What a response earns; see `rewards.py`. Plug-ins know others."""

LOSSES = ("dpo",)
"""What is made small on pairs; plug-ins know others."""

SHORT_NAMES = {
    "lr": "optimization.learning_rate",
    "lora": "optimization.lora_rank",
    "algorithm": "algorithm",
    "system": "system",
    "query": "query",
    "rounds": "rounds.number",
}
"""What `--set` and `--sweep` take as well, and the command line as flags: `--lora 32`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSettings:
    """Which of the suite's training items are learned from."""

    limit: int | None = None
    """Only the first N of each data set; None: all."""
    validation: float = 0.1
    """Share that a sweep holds out to choose by. Without a sweep everything is learned from."""
    choose_by: str = "loss"
    """What a sweep chooses by; see `criteria.py`: loss, satisfied:JUDGE, wins:JUDGE or accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the reference model's responses are drawn."""

    model: str | None = None
    """Who generates: vllm:PATH or openai:NAME@URL serving the base model; None: the model as
    `--model` names it."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    """Longest response; None: the suite's length. A response cut there is not learned from."""
    batch_size: int | None = None
    thinking: str = ""
    """What the model is told of thinking, as `--engine` takes it: "enable_thinking=false". What it
    thinks is not learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """Where the rejected responses come from."""

    negatives: str = "missing"
    """One of `NEGATIVES`, or a plug-in's."""
    n_negatives: int = 1
    """Rejected responses per chosen one; Table 6 compares 1, 3, 5 and 10."""

    def __post_init__(self) -> None:
        plugin_of("negatives", self.negatives, NEGATIVES, "pairs.negatives")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """How the weights are moved, whatever the loss. Defaults: PAPER.md, appendix E."""

    learning_rate: float = 1e-7
    """Swept in the paper over {1e-6, 5e-7, 1e-7}."""
    epochs: float = 1.0
    batch_size: int = 4
    """Per optimizer step over all devices: pairs (`settings.batch_of`), responses or groups."""
    micro_batch_size: int = 1
    """As many per forward pass on one device; the rest of the batch is accumulated."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    final_share: float = 0.0
    """Share of the learning rate at which a cosine ends."""
    warmup_ratio: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Literal["bf16", "float32"] = "bf16"
    gradient_checkpointing: bool = False
    lora_rank: int | None = None
    """None trains all weights; the paper uses rank 32 for 70B."""
    lora_alpha: float | None = None
    """LoRA's scale is this over its rank; None: twice the rank."""
    max_length: int | None = None
    """Tokens of a prompt with its response; None: what the model takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoSettings:
    """What DPO on pairs needs beyond an optimizer. Defaults are the paper's."""

    beta: float = 0.1
    """Strength of the pull to the reference; PAPER.md, appendix E."""
    loss: str = "dpo"
    """One of `LOSSES`, or a plug-in's."""
    batch_of: BatchOf = "pairs"
    """What batch sizes count. With pairs, as in the paper, N negatives make N times the updates,
    and a pair is the unit of the loss; with prompts a prompt is, whatever its N."""
    attention: AttentionChoice = "auto"

    def __post_init__(self) -> None:
        plugin_of("losses", self.loss, LOSSES, "settings.loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class SftSettings:
    """SFT has no settings of its own: appendix E trains it as DPO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveSettings:
    """What contrastive training needs beyond an optimizer, whose batch counts groups."""

    loss: Literal["info_nce", "sami"] = "info_nce"
    contexts: int = 4
    """K: contexts, and responses, of a group. The paper leaves it open; its authors' code: 2."""
    attention: AttentionChoice = "auto"

    def __post_init__(self) -> None:
        if self.contexts < 2:
            raise ValueError(
                f"contexts is {self.contexts}: a response is told by its context among 2 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings:
    """What methods that learn from rewards have in common."""

    reward: str = "mi"
    """One of `REWARDS`, or a plug-in's."""
    judge: str | None = None
    """Who rates, as `--judge` names it; None: the frozen base model."""
    rates: Literal["context", "preferences"] = "context"
    """What a response is rated by from 1 to 5: the user's whole context at once, or each preference
    by itself, of which the mean counts."""
    alpha: float = 0.1
    """Weight of the MI reward in `judge+mi`, per nat and point of the rating. The paper leaves it
    open; its authors' code adds 0.1 x MI to a rating divided by 5, which is 0.5 here."""
    max_new_tokens: int = 256
    """Longest response."""
    kl: float = 0.001
    """Penalty for leaving the reference model, in reward per nat; PPO starts with it."""

    def __post_init__(self) -> None:
        plugin_of("rewards", self.reward, REWARDS, "settings.reward")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}: it must be above 0")
        if self.kl < 0:
            raise ValueError(f"kl is {self.kl:g}: a penalty is not below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings(RewardSettings):
    """How PPO learns; `optimization` is the actor's. Defaults: PAPER.md, appendix E, as named."""

    critic_learning_rate: float = 9e-6
    """Appendix E."""
    rollout_batch_size: int = 8
    """Responses per rollout over all devices (appendix E)."""
    rollout_micro_batch_size: int = 2
    """Responses written or scored at a time on one device (appendix E)."""
    passes: int = 1
    """How often each rollout is learned from."""
    kl_target: float | None = None
    """KL to hold, in nats per response; None keeps the coefficient `kl`."""
    kl_horizon: int = 10_000
    """Responses over which a deviation from the target is made up for."""
    normalize_reward: bool = True
    """Rewards in standard deviations from the mean of all that were seen (appendix E)."""
    reward_clip: float | None = None
    """Farthest that a reward, normalised or not, may be from 0; None: as far as it is."""
    discount: float = 1.0
    decay: float = 0.95
    """Lambda of the advantages: lower is less noisy and trusts the critic more."""
    clip: float = 0.2
    """How far the ratio of new to old probability may move with profit."""
    value_clip: float = 0.2

    def __post_init__(self) -> None:
        RewardSettings.__post_init__(self)
        names = ("critic_learning_rate", "rollout_batch_size", "rollout_micro_batch_size")
        for name in (*names, *(["reward_clip"] if self.reward_clip is not None else [])):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name):g}: it must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoSettings(RewardSettings):
    """How GRPO learns; `optimization.batch_size` counts prompts."""

    generations: int = 8
    """Responses per prompt, compared with each other."""
    passes: int = 1
    """How often each batch is learned from."""
    clip: float = 0.2
    """How far the ratio of new to old probability may move with profit."""

    def __post_init__(self) -> None:
        RewardSettings.__post_init__(self)
        if self.generations < 2:
            raise ValueError(f"generations is {self.generations}: responses are compared, so >= 2")


ALGORITHMS: Mapping[str, type] = {
    "dpo": DpoSettings,
    "sft": SftSettings,
    "contrastive": ContrastiveSettings,
    "ppo": PpoSettings,
    "grpo": GrpoSettings,
}
"""What each can be set to. Algorithm x is the function `train_x(job, settings)` of module x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides a training, beside the base model, the suite and the seed."""

    name: str
    """The reported row: "mipo-missing", "sft", ..."""
    about: str = ""
    algorithm: Literal["dpo", "sft", "contrastive", "ppo", "grpo"]
    learns_from: LearnsFrom
    items: ItemSettings = dataclasses.field(default_factory=ItemSettings)
    sampling: SamplingSettings = dataclasses.field(default_factory=SamplingSettings)
    pairs: PairSettings | None = None
    """Only for what learns from pairs."""
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    settings: Any
    """Of the algorithm, as `ALGORITHMS` says."""
    rounds: RoundSettings = dataclasses.field(default_factory=RoundSettings)
    chat_template: str | None = None
    """Jinja file in place of, or for want of, the model's own chat template."""
    system: str | None = None
    """System prompt of every conversation, or the file that holds it."""
    query: str | None = None
    """Wording of the prompts, as `--query` takes it; None: the suite's own."""
    save_steps: int = 200
    report_to: tuple[str, ...] = ()
    """Trackers of transformers: tensorboard, wandb, trackio."""

    def steps(self, examples: int, pairs: int) -> int:
        """Return about how many optimizer steps a training takes, for the progress bar."""
        how, units = self.optimization, float(examples)
        if self.algorithm == "contrastive":
            units /= self.settings.contexts
        elif self.algorithm == "dpo" and self.settings.batch_of == "pairs":
            units = pairs
        return max(1, math.ceil(math.ceil(units / how.batch_size) * how.epochs))


def recipe_names() -> tuple[str, ...]:
    """Return the recipes that ship."""
    folder = resources.files(__package__) / "configs"
    names = (file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    return tuple(sorted(name.removesuffix(".yaml") for name in names))


def load_recipe(
    method: str, *, config: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """Return a method's recipe, with the keys of a user's own and `key=value` overrides.

    Raises:
        ConfigError: no such method, an unknown key, or a value of the wrong kind.
    """
    names = recipe_names()
    if method not in names:
        raise ConfigError(f"unknown method {method!r}; known: {', '.join(names)}")
    text = (resources.files(__package__) / "configs" / f"{method}.yaml").read_text("utf-8")
    raw = _parse(text, f"{method}.yaml")
    raw = merge(raw, config or {})
    for override in overrides:
        key, value = parse_override(override)
        raw = merge(raw, nested(key, value))
    return make_recipe({"name": method} | raw)


def make_recipe(raw: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a mapping as YAML holds it.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
    """
    algorithm = raw.get("algorithm")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {algorithm!r}; known: {', '.join(ALGORITHMS)}")
    settings: Any = fill(ALGORITHMS[algorithm], raw.get("settings") or {}, "settings")
    nested = {
        "items": ItemSettings,
        "sampling": SamplingSettings,
        "pairs": PairSettings,
        "optimization": Optimization,
        "rounds": RoundSettings,
    }
    parts: dict[str, Any] = {
        key: fill(kind, raw[key], key) for key, kind in nested.items() if raw.get(key) is not None
    }
    recipe: Recipe = fill(Recipe, {**raw, **parts, "settings": settings}, "")
    _check(recipe)
    return recipe


def recipe_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as YAML and JSON show it; `make_recipe` reads it back."""
    shown = dataclasses.asdict(recipe)
    if not recipe.sampling.thinking:  # recipes that say nothing of it stay what they were
        del shown["sampling"]["thinking"]
    if recipe.rounds.number == 1:
        del shown["rounds"]
    shown["optimization"]["betas"] = list(recipe.optimization.betas)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in shown.items()
        if not (key in {"pairs", "system", "query"} and value is None)
    }


def recipe_yaml(recipe: Recipe) -> str:
    """Return a recipe as a YAML file that `--config` takes."""
    return yaml.safe_dump(recipe_dict(recipe), sort_keys=False, allow_unicode=True)


def load_method(algorithm: str) -> Callable[[Any, Any], Any]:
    """Return an algorithm's function; its module, and torch with it, is imported only now."""
    module = importlib.import_module(f"{__package__}.{algorithm}")
    method: Callable[[Any, Any], Any] = getattr(module, f"train_{algorithm}")
    return method


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value of `key=value`; the value is read as YAML, so 3 is a number.

    Raises:
        ConfigError: there is no `=`, or the value is no YAML.
    """
    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise ConfigError(f"--set {text!r}: write key=value, e.g. lr=5e-7 or pairs.n_negatives=3")
    if key.strip() == "system":
        return "system", value  # prose, which YAML may read as something else
    try:
        # YAML 1.1 reads 5e-7 as a text, and the field's type then makes it the number.
        return SHORT_NAMES.get(key.strip(), key.strip()), parse_yaml(value)
    except ValueError:
        raise ConfigError(f"--set {text!r}: the value cannot be read as YAML") from None


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Return key and values of `lr=1e-6,5e-7,1e-7`.

    Raises:
        ConfigError: it is not of that form, or names fewer than two different values.
    """
    key, _, listed = text.partition("=")
    pairs = [parse_override(f"{key}={value}") for value in listed.split(",") if value.strip()]
    if len({str(value) for _, value in pairs}) < 2:
        raise ConfigError(f"--sweep {text!r}: give two values or more, such as lr=1e-6,5e-7,1e-7")
    return pairs[0][0], [value for _, value in pairs]


_Kind = TypeVar("_Kind")


def fill(kind: type[_Kind], raw: Any, where: str) -> _Kind:
    """Return a dataclass filled from a mapping as YAML holds it, strictly.

    `where` is the key the mapping stood under, for messages; "" is the recipe itself.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of the wrong kind.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'the recipe'} contains {raw!r}: write key: value")
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    dot = f"{where}." if where else ""
    if unknown := sorted(f"{dot}{key}" for key in raw if key not in known):
        raise ConfigError(
            f"unknown {', '.join(unknown)}; known in {where or 'a recipe'}: "
            f"{', '.join(known) or 'none'}"
        )
    try:
        return TypeAdapter(kind).validate_python(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in (where, *first["loc"]) if part != "")
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{field}: {message[:1].lower()}{message[1:]}") from None


def _check(recipe: Recipe) -> None:
    """Refuse numbers that mean nothing, before anything is generated."""
    how, share = recipe.optimization, recipe.items.validation
    positive = {
        "optimization.learning_rate": how.learning_rate,
        "optimization.epochs": how.epochs,
        "optimization.batch_size": how.batch_size,
        "optimization.micro_batch_size": how.micro_batch_size,
        "save_steps": recipe.save_steps,
        "rounds.number": recipe.rounds.number,
        "optimization.lora_alpha": 1 if how.lora_alpha is None else how.lora_alpha,
        "items.limit": 1 if recipe.items.limit is None else recipe.items.limit,
    }
    for key, value in positive.items():
        if not value > 0:
            raise ConfigError(f"{key} is {value:g}: it must be above 0")
    if not all(0 <= beta < 1 for beta in how.betas):
        raise ConfigError(f"optimization.betas are {list(how.betas)}: both must be in [0, 1)")
    if not 0 <= how.final_share <= 1 or (how.final_share and how.schedule != "cosine"):
        raise ConfigError(
            f"optimization.final_share is {how.final_share:g}: it is the share, 0 to 1, at which "
            "optimization.schedule=cosine ends"
        )
    if not 0 < share < 1:
        raise ConfigError(f"items.validation is {share:g}: it must be between 0 and 1")
    if recipe.sampling.temperature < 0 or not 0 < recipe.sampling.top_p <= 1:
        raise ConfigError("sampling.temperature must be at least 0, and sampling.top_p in (0, 1]")
    check_rounds(
        recipe.rounds,
        name=recipe.name,
        learns_from=recipe.learns_from,
        algorithm=recipe.algorithm,
    )
    with_pairs = recipe.learns_from in {"pairs", "revision"}
    if with_pairs != (recipe.pairs is not None):
        what = "needs the key pairs" if with_pairs else "makes no pairs, so leave the key pairs out"
        raise ConfigError(f"{recipe.name} learns from {recipe.learns_from}: it {what}")


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        raw = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} contains no keys")
    return raw


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above`, nested mappings merged key by key."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for the key "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)

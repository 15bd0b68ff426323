"""MIPO inside other people's training: pairs, win rates and rewards for TRL's own trainers.

    from trl import DPOConfig, DPOTrainer
    from mipo_eval.trl import MipoDataset, WinRateCallback

    pairs = MipoDataset("Qwen/Qwen2.5-1.5B-Instruct", "items.jsonl", negatives="missing")
    trainer = DPOTrainer(model, args=DPOConfig(...), train_dataset=pairs)
    trainer.add_callback(WinRateCallback(trainer, "held_out.jsonl", "gpt-4.1", max_cost=5))
    trainer.train()

Models, suites and judges are what the functions of `mipo_eval.api` take; torch and trl are imported
when something is done with them. docs/trl.md says more.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mipo_eval import settings
from mipo_eval.api import Bars, outside_loop
from mipo_eval.compare.contest import build_contest
from mipo_eval.compare.head_to_head import Match, fight
from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.given import Given, Judges, Model, Suite
from mipo_eval.judges.judge import Protocol
from mipo_eval.judges.presets import duel_protocol, load_judge
from mipo_eval.models.base import Backend
from mipo_eval.models.callable import Function
from mipo_eval.models.prices import Metered
from mipo_eval.models.spec import parse_model
from mipo_eval.models.thinking import written
from mipo_eval.records import Item
from mipo_eval.results import AnyStore, opened
from mipo_eval.tasks.suites import find_suite, suite_items
from mipo_eval.training.data import as_examples, pair_table, training_items
from mipo_eval.training.recipes import ItemSettings, RewardSettings, load_recipe
from mipo_eval.training.rewards import (
    Completion,
    Reward,
    exact_rewards,
    fits,
    mi_rewards,
    only_responses,
    rated_by,
)
from mipo_eval.training.run import TrainingRequest, make_examples
from mipo_eval.training.trainer import TrainingExample, is_main_process, main_process_first

__all__ = ["MipoDataset", "PromptDataset", "WinRateCallback", "reward_funcs"]

_LOG = logging.getLogger(__name__)


@outside_loop
def MipoDataset(
    model: Model,
    items: Suite,
    *,
    negatives: str = "missing",
    n_negatives: int = 1,
    store: AnyStore = None,
    **how: float,
) -> Any:
    """Return MIPO's pairs as a `datasets.Dataset` for `trl.DPOTrainer`: prompt, chosen, rejected.

    Responses are drawn as `mipo-eval train mipo` draws them, and kept in the store: what was drawn
    before is found again. What gave no pair is counted in `.info.description`, and logged.

    Args:
        model: who answers; the model that is to be trained.
        items: a suite with a training split, or rows of items.
        negatives: "missing", "random", "reshuffle", "random-strings", or a plug-in's.
        n_negatives: rejected responses per chosen one, each a pair.
        store: as for `mipo_eval.evaluate`.
        **how: `seed` of the drawing; `limit`: only the first items of each data set; temperature,
            top_p, max_tokens, batch_size.

    Raises:
        MipoEvalError: whatever has to be changed, in one line; what was drawn before is kept.
    """
    seed, limit = int(how.pop("seed", 0)), how.pop("limit", None)
    said: dict[str, Any] = {f"sampling.{name}": value for name, value in how.items()}
    said |= {"items.limit": limit, "pairs.negatives": negatives, "pairs.n_negatives": n_negatives}
    overrides = [f"{key}={json.dumps(value)}" for key, value in said.items()]
    recipe = load_recipe("mipo-missing", overrides=overrides)
    with Given() as objects, opened(store) as here:
        spec = parse_model(objects.model(model)[0])
        suite = find_suite(objects.suite(items))
        request = TrainingRequest(
            recipe=recipe,
            model=spec,
            sampling_model=spec,
            suite=suite,
            data=training_items(suite, settings.data_dir(), recipe.items),
            out=Path(),
            seed=seed,
        )
        with main_process_first():
            made, _ = make_examples(here, request, Bars())
    table = pair_table(made.examples)
    told = f"{len(table)} pairs of {made.items} items"
    if lost := {**made.dropped, **made.dropped_negatives}:
        told += f"; dropped: {', '.join(f'{n} x {why}' for why, n in lost.items())}"
        _LOG.warning("MipoDataset: %s", told)
    table.info.description = told
    return table


def PromptDataset(items: Suite, *, limit: int | None = None) -> Any:
    """Return items as a `datasets.Dataset` for `trl.GRPOTrainer` with `reward_funcs`.

    Its columns: `prompt`, with the user's context, and `bare_prompt`, without it, are
    conversations; `item` is the item as JSON.

    Args:
        items: a suite with a training split, or rows of items.
        limit: only the first items of each data set.

    Raises:
        MipoEvalError: whatever has to be changed, in one line.
    """
    import datasets

    with Given() as objects:
        suite = find_suite(objects.suite(items))
        data = training_items(suite, settings.data_dir(), ItemSettings(limit=limit))
        return datasets.Dataset.from_list(
            [
                {
                    "prompt": list(one.prompt),
                    "bare_prompt": list(one.bare_prompt),
                    "item": one.item.model_dump_json(),
                }
                for part in data
                for one in as_examples(suite, part.task, [(item, None, ()) for item in part.items])
            ]
        )


RewardKind = Literal["judge", "mi", "exact"]


def reward_funcs(
    *kinds: RewardKind,
    tokenizer: Any,
    model: Any = None,
    judge: str | Function | Backend | None = None,
    rates: Literal["context", "preferences"] = "context",
) -> list[Callable[..., Any]]:
    """Return rewards for `trl.GRPOTrainer` on a `PromptDataset`; one that is not known is None.

    judge   the judge's rating from 1 to 5, or the mean over the preferences
    mi      log pi(y|x,c) - log pi(y|x) in nats under the model as it is at the time
    exact   1 for the right answer of a verifiable question, else 0

    TRL leaves out what is None; its share is logged as `KIND/unscored`.

    Args:
        *kinds: which; TRL adds them up, as its `reward_weights` say.
        tokenizer: of the model that is trained.
        model: the very object that the trainer is given, before that; for "mi".
        judge: who rates; for "judge".
        rates: whether the user's context is rated at once, or each preference by itself.

    Raises:
        MipoEvalError: whatever has to be changed, in one line.
    """
    from mipo_eval.training.logprobs import Codec

    codec = Codec.of(copy.deepcopy(tokenizer))
    found: list[Callable[..., Any]] = []
    for kind in kinds:
        if kind == "judge":
            found.append(_judged(codec, judge, RewardSettings(reward="judge", rates=rates)))
        elif kind == "mi":
            found.append(_plain("mi", codec, _mutual_information(model, codec)))
        elif kind == "exact":
            found.append(_plain("exact", codec, exact_rewards))
        else:
            raise ConfigError(f"there is no reward {kind!r}; known: judge, mi, exact")
    return found


def _plain(kind: RewardKind, codec: Any, value: Reward) -> Callable[..., Any]:
    def reward(**columns: Any) -> list[float | None]:
        made = _completions(kind, codec, columns)
        known = [one for one in made if one is not None]
        return _told(kind, made, only_responses(value)(known) if known else (), columns)

    reward.__name__ = kind
    return reward


def _judged(codec: Any, judge: Any, how: RewardSettings) -> Callable[..., Any]:
    if judge is None:
        raise ConfigError("the reward judge needs one: judge=NAME")
    with Given() as objects:
        loaded = load_judge(objects.judge(judge))
    value = rated_by(loaded, how, "take another judge, or rates='preferences'")

    async def reward(**columns: Any) -> list[float | None]:
        # TRL keeps an event loop for such functions, to which a client's connections can belong.
        made = _completions("judge", codec, columns)
        return _told("judge", made, await value([one for one in made if one is not None]), columns)

    reward.__name__ = "judge"
    return reward


def _mutual_information(model: Any, codec: Any) -> Reward:
    if not hasattr(model, "get_output_embeddings"):
        raise ConfigError("the reward mi needs the model that is trained, loaded: model=MODEL")
    from mipo_eval.training.logprobs import add_likelihood_head, summed_logprobs

    add_likelihood_head(model)

    def logprobs(prompts: Any, responses: Any) -> Any:
        training = model.training
        model.eval()  # no dropout, and no activations that are computed again
        try:
            return summed_logprobs(model, codec, prompts, responses, rows=1)
        finally:
            model.train(training)

    return lambda completions: mi_rewards(completions, logprobs)


def _completions(kind: RewardKind, codec: Any, columns: dict[str, Any]) -> list[Completion | None]:
    """Return what was written to rows of a `PromptDataset`; None where there is no reward for it.

    Raises:
        ConfigError: the rows are of another data set.
    """
    if absent := [name for name in ("item", "bare_prompt") if name not in columns]:
        raise ConfigError(
            f"the reward {kind} needs the column {absent[0]}: train on a PromptDataset, and leave "
            "remove_unused_columns as GRPOConfig has it"
        )
    found: list[Completion | None] = []
    parts = (columns[name] for name in ("item", "prompts", "bare_prompt", "completion_ids"))
    for text, prompt, bare, ids in zip(*parts, strict=True):
        item = Item.model_validate_json(text)
        example = TrainingExample(item=item, prompt=tuple(prompt), bare_prompt=tuple(bare))
        asked = fits(kind, item) and (kind != "mi" or example.prompt != example.bare_prompt)
        start = codec.prompt(prompt)
        made = Completion.of(example, ids, tokenizer=codec.tokenizer, prompt=start)
        found.append(made if asked else None)
    return found


def _told(
    kind: str,
    made: Sequence[Completion | None],
    values: Sequence[float | None],
    columns: dict[str, Any],
) -> list[float | None]:
    """Return a reward for each completion, and log for how many there is none."""
    given = iter(values)
    found = [None if one is None else next(given) for one in made]
    columns["log_metric"](f"{kind}/unscored", found.count(None) / len(found))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """What else is said of measuring a win rate."""

    limit: int | None = None
    """Only the first items of each data set."""
    protocol: Protocol | None = None
    """As for `mipo_eval.judge`."""
    max_new_tokens: int = 256
    """Longest answer."""
    max_cost: float | None = None
    """Dollars, at most, for all of the training."""
    store: AnyStore = None
    """As for `mipo_eval.evaluate`."""


class WinRateCallback:
    """Has the policy answer held-out items as it is trained, and a judge say how often it wins.

    Every so many steps, and at the end, its greedy answers are judged against what it answered
    before the training, both in both places. What comes of it is logged as the trainer logs, and
    kept in the store like any contest: `eval_win_rate_half_ties` with `_low` and `_high` (95 %),
    `eval_tie_rate`, `eval_judged` and `eval_unscored` items, and `eval_judge_cost` in dollars. The
    answers stand in `win_rate/step-N.jsonl` of the trainer's output folder.

    A judge that cannot be asked does not end the training: all items are unscored, and it is said
    why. Nor does the budget: when it is used up nothing is asked any more.

    Args:
        trainer: of trl or transformers, on one process or several (DDP, ZeRO).
        items: a suite, or rows of items; of a suite, the test split.
        judge: as for `mipo_eval.judge`.
        every: how many steps.
        against: "base", what the policy answered before the training; "reference", the items'
            references; or any other entrant, as `mipo-eval judge` names it.
        **how: `limit`: only the first items of each data set; `max_cost`: dollars, at most, for all
            of the training; `max_new_tokens`: longest answer, 256; `protocol` and `store` as for
            `mipo_eval.judge`.

    Raises:
        MipoEvalError: whatever has to be changed, in one line.
    """

    # No subclass of transformers' callback, which takes seconds to import: see `__getattr__`.

    def __init__(
        self,
        trainer: Any,
        items: Suite,
        judge: Judges = None,
        *,
        every: int = 100,
        against: str = "base",
        **how: Any,
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is {every}: it counts steps, from 1 on")
        if trainer.is_fsdp_enabled:
            raise ConfigError("under FSDP a policy cannot answer: train with DDP or DeepSpeed")
        self._trainer, self._every, self._against = trainer, every, against
        self._items = items if isinstance(items, str | Path) else list(items)
        self._judge, self._how = judge, (own := _How(**how))
        self._spent, self._stopped = 0.0, False
        for one in judge if isinstance(judge, list | tuple) else [judge]:
            if isinstance(one, str):  # a wrong name is found before the training
                load_judge(one, protocol=duel_protocol(one, own.protocol))
        with Given() as objects:
            suite = find_suite(objects.suite(self._items))
            if suite.form != "query":
                raise ConfigError(f"suite {suite.name} has right answers: no judge has to tell")
            tasks = {task.name: task for task in suite.tasks}
            self._asked = [
                example
                for name, some in suite_items(suite, settings.data_dir(), own.limit)
                for example in as_examples(suite, tasks[name], [(item, None, ()) for item in some])
            ]
        self._folder = Path(trainer.args.output_dir) / "win_rate"

    def __getattr__(self, event: str) -> Callable[..., None]:
        """Do nothing at all other events."""
        if event.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(event)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note what the policy answers before the training; judge that, unless it is the other.

        Raises:
            MipoEvalError: whatever has to be changed, in one line.
        """
        if state.global_step == 0:
            self._answer()
            if self._against != "base" and is_main_process():
                self._log(self._fight())
        elif self._against == "base" and not self._file(0).is_file():
            raise ConfigError(
                f"{self._file(0)} is gone, and the policy has moved since: name another entrant "
                "with against="
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have the policy judged, every so many steps."""
        if state.global_step % self._every == 0:
            self._measure()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have the policy judged, unless it was just now."""
        if state.global_step % self._every:
            self._measure()

    def _measure(self) -> None:
        from accelerate.utils import broadcast_object_list

        if self._stopped:
            return
        self._answer()
        if is_main_process():
            try:
                self._log(self._fight())
            except MipoEvalError as error:
                step, limit = self._trainer.state.global_step, self._how.max_cost
                why = f"the budget of ${limit:g} is used up" if self._stopped else error
                _LOG.warning("WinRateCallback: step %d is not judged: %s", step, why)
                self._write_log({"judged": 0, "unscored": len(self._asked)})
        # The others wait here, and all know whether there is more to do.
        self._stopped = broadcast_object_list([self._stopped])[0]

    def _file(self, step: int) -> Path:
        return self._folder / f"step-{step}.jsonl"

    def _answer(self) -> None:
        """Write down what the policy answers now."""
        from accelerate.utils import gather_object

        place = self._trainer.accelerator
        with place.split_between_processes(self._asked) as own:
            found = gather_object(list(_answers(self._trainer, own, self._how.max_new_tokens)))
        if is_main_process():
            self._folder.mkdir(parents=True, exist_ok=True)
            lines = (
                json.dumps({"item_id": one.item.item_id, "response": text})
                for one, text in zip(self._asked, found, strict=True)
            )
            file = self._file(self._trainer.state.global_step)
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @outside_loop
    def _fight(self) -> list[Match]:
        """Return how the policy does; what was asked before an error is kept.

        Raises:
            MipoEvalError: a judge cannot be asked, the budget is used up, or there is no answer.
        """
        how, options = self._how, dict[str, Any](limit=self._how.limit)
        if how.max_cost is not None:
            options["max_cost"] = max(0.0, how.max_cost - self._spent)
        step = self._trainer.state.global_step
        base = str(self._file(0)) if self._against == "base" else self._against
        with Given() as objects, opened(how.store) as here:
            asked = objects.asked(self._items, self._judge, options)
            names = [str(self._file(step)), base]
            contest = build_contest(here, asked, names, how.protocol, Bars(), lambda *_: None)
            try:
                return fight(here, contest, Bars())
            finally:
                for judge in contest.judges:
                    if isinstance(judge.backend, Metered):
                        self._spent += judge.backend.usage.cost or 0.0
                    dead = getattr(judge.backend, "dead", None)
                    self._stopped |= dead is not None and dead.kind == "budget"

    def _log(self, matches: Sequence[Match]) -> None:
        several = len(matches) > 1
        found: dict[str, float | None] = {}
        for match in matches:
            won, behind = match.balance, f"/{match.task}/{match.judge}" if several else ""
            low, high = won.half.ci95 or (None, None)
            if won.win.unscored:
                step, n = self._trainer.state.global_step, won.win.n + won.win.unscored
                why = ", ".join(
                    f"{count} x {what}" for what, count in won.win.unscored_reasons.items()
                )
                _LOG.warning(
                    "WinRateCallback: step %d: %d of %d items have no verdict (%s)",
                    *(step, won.win.unscored, n, why),
                )
            rates = {
                "win_rate_half_ties": won.half.value,
                "win_rate_half_ties_low": low,
                "win_rate_half_ties_high": high,
                "tie_rate": won.tie.value,
                "judged": won.win.n,
                "unscored": won.win.unscored,
            }
            found |= {f"{name}{behind}": value for name, value in rates.items()}
        self._write_log(found)

    def _write_log(self, found: dict[str, Any]) -> None:
        from transformers import Trainer

        if self._spent:
            found["judge_cost"] = self._spent
        # Not the trainer's own `log`, which would take what it has gathered of this step for ours;
        # and its own is still to come where it is due.
        logs = {f"eval_{name}": value for name, value in found.items() if value is not None}
        due = self._trainer.control.should_log
        Trainer.log(self._trainer, logs)
        self._trainer.control.should_log = due


def _answers(trainer: Any, asked: Sequence[TrainingExample], most: int) -> Iterator[str]:
    """Yield the policy's greedy answers, with what it thought before them."""
    from trl.models.utils import unwrap_model_for_generation

    from mipo_eval.training.actor_critic import write
    from mipo_eval.training.logprobs import Codec

    place, kind = trainer.accelerator, trainer.processing_class
    tokenizer = copy.deepcopy(getattr(kind, "tokenizer", kind))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    codec, rows = Codec.of(tokenizer), trainer.args.per_device_eval_batch_size
    prompts = [codec.prompt(example.prompt) for example in asked]
    with unwrap_model_for_generation(trainer.model_wrapped, place) as policy, _neutral(policy):
        for start in range(0, len(prompts), rows):
            some = prompts[start : start + rows]
            with place.autocast():
                found = write(policy, codec, some, do_sample=False, max_new_tokens=most)
            yield from (written(tokenizer, *one) for one in zip(some, found, strict=True))


@contextmanager
def _neutral(policy: Any) -> Iterator[None]:
    """Let a policy answer without dropout and the habits of its generation_config."""
    from mipo_eval.models.weights import draw_neutrally

    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    own, training = model.generation_config, policy.training
    draw_neutrally(model)
    policy.eval()
    try:
        yield
    finally:
        model.generation_config = own
        policy.train(training)

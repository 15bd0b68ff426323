"""A policy judged as it is trained, by TRL or transformers."""

import copy
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipo_eval import settings
from mipo_eval.compare.contest import build_contest
from mipo_eval.compare.head_to_head import Match, fight
from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.evaluation.asked import own_judge
from mipo_eval.given import Given, Judges, Suite
from mipo_eval.judges.judge import Protocol
from mipo_eval.judges.presets import duel_protocol, load_judge
from mipo_eval.models.prices import Metered
from mipo_eval.models.thinking import written
from mipo_eval.progress import Bars, outside_loop
from mipo_eval.results import AnyStore, opened
from mipo_eval.tasks.sources import suite_items
from mipo_eval.tasks.suites import find_suite
from mipo_eval.training.data import as_examples
from mipo_eval.training.trainer import TrainingExample, is_main_process

_LOG = logging.getLogger(__name__)


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
    """Dollars, at most, from the start of this program on."""
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
        **how: `limit`: only the first items of each data set; `max_cost`: dollars, at most, from
            the start of this program on; `max_new_tokens`: longest answer, 256; `protocol` and
            `store` as for `mipo_eval.judge`.

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
            raise ConfigError(f"every={every} is a number of steps: it must be 1 or more")
        if trainer.is_fsdp_enabled:
            raise ConfigError(
                "the callback cannot generate under FSDP: train with DDP or DeepSpeed"
            )
        self._trainer, self._every, self._against = trainer, every, against
        self._items = items if isinstance(items, str | Path) else list(items)
        self._how, self._spent, self._stopped = (own := _How(**how)), 0.0, False
        with Given() as objects:
            suite = find_suite(objects.suite(self._items))
            if suite.form != "query":
                raise ConfigError(
                    f"the answers of suite {suite.name} are right or wrong, so no judge is needed"
                )
            judges: Any = judge if isinstance(judge, list | tuple) else [judge]
            self._judges = [own_judge(suite.name) if one is None else one for one in judges]
            for one in self._judges:
                if isinstance(one, str):  # a wrong name is found before the training
                    load_judge(one, protocol=duel_protocol(one, own.protocol))
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
                f"{self._file(0)} is missing, and the policy has changed since then: name another "
                "entrant with against="
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
            asked = objects.asked(self._items, self._judges, options)
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
                step, n = self._trainer.state.global_step, len(match.entries)
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

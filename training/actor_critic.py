"""The models of PPO: the policy, its frozen reference and the critic, and what is done with them.

The critic is a second copy of the base model whose head says, at each token, what the rest of the
response will earn. Under LoRA policy and reference share their weights.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.training.logprobs import (
    IGNORED,
    Codec,
    add_likelihood_head,
    padded,
    summed_logprobs,
)
from mipo_eval.training.losses import policy_loss, value_loss
from mipo_eval.training.recipes import PpoSettings
from mipo_eval.training.rewards import Completion
from mipo_eval.training.trainer import (
    Messages,
    TrainingExample,
    TrainingJob,
    adapter_config,
    load_policy,
    longest_text,
    weights_dtype,
    with_adapter,
    without_noise,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Responses as the policy wrote them and what was thought of them; all (responses, tokens)."""

    input_ids: Tensor
    targets: Tensor
    mask: Tensor
    """True where the next token is of a response that has a reward."""
    logprobs: Tensor
    reference: Tensor
    """Log-probabilities under the reference model."""
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def rows(self, index: Sequence[int]) -> "Experience":
        """Return some of the responses."""
        at = torch.tensor(index, device=self.mask.device)
        return replace(self, **{one.name: getattr(self, one.name)[at] for one in fields(self)})


class ActorCritic:
    """Policy, reference and critic on this process's device.

    The job's learning rate is the policy's.

    Raises:
        ConfigError: the processes train in shards.
        ModelError: the base model cannot be loaded, or its architecture has no critic.
    """

    def __init__(self, job: TrainingJob, settings: PpoSettings) -> None:
        from accelerate import Accelerator, DistributedType

        self._settings, self._how = settings, (how := job.optimization)
        half = how.precision == "bf16" and torch.cuda.is_available()
        self.accelerator = Accelerator(
            mixed_precision="bf16" if half else "no",
            log_with=list(job.report_to) or None,
            project_dir=job.out / "runs",
        )
        if self.accelerator.distributed_type in {DistributedType.FSDP, DistributedType.DEEPSPEED}:
            raise ConfigError(
                "PPO trains two models, a policy and a critic, and FSDP and DeepSpeed can shard "
                "only one: start it with ddp.yaml, or add --algorithm grpo, which has no critic"
            )
        # Shared by all trainings of a process: one that was stopped between two accumulated
        # batches leaves it off, and the optimizers of the next would not move.
        self.accelerator.sync_gradients = True
        self.accelerator.init_trackers("mipo-eval")
        policy, tokenizer = load_policy(job)
        self.tokenizer, self.codec = tokenizer, Codec.of(tokenizer)
        self.longest = longest_text(job, policy)
        self._rows = settings.rollout_micro_batch_size
        self._rates = {"actor": how.learning_rate, "critic": settings.critic_learning_rate}
        actor, self._reference = _with_reference(job, policy)
        critic = _critic(job)
        if how.gradient_checkpointing:
            actor.gradient_checkpointing_enable()
            critic.gradient_checkpointing_enable()
        make = torch.optim.AdamW
        trained = {
            name: make(
                _trained(model),
                lr=self._rates[name],
                betas=how.betas,
                weight_decay=how.weight_decay,
            )
            for name, model in (("actor", actor), ("critic", critic))
        }
        self.actor, self.critic, *made = self.accelerator.prepare(actor, critic, *trained.values())
        self._optimizers = dict(zip(trained, made, strict=True))
        if self._reference is not None:
            self._reference.to(self.accelerator.device)

    def write(self, examples: Sequence[TrainingExample]) -> list[Completion]:
        """Return a response of the policy to each example's prompt, drawn at temperature 1.

        Raises:
            FloatingPointError: the policy gives no probabilities any more.
        """
        found: list[Completion] = []
        for some in _pieces(examples, self._rows):
            prompts = [self.codec.prompt(example.prompt) for example in some]
            for example, prompt, tokens in zip(some, prompts, self._generate(prompts), strict=True):
                made = Completion.of(example, tokens, tokenizer=self.tokenizer, prompt=prompt)
                found.append(made)
        return found

    def _generate(self, prompts: Sequence[list[int]]) -> list[tuple[int, ...]]:
        from trl.models.utils import unwrap_model_for_generation

        how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        how["max_new_tokens"] = self._settings.max_new_tokens
        with unwrap_model_for_generation(self.actor, self.accelerator) as policy:
            policy.eval()
            with self.accelerator.autocast(), _probabilities_expected():
                written = write(policy, self.codec, prompts, **how)
            policy.train()
        return written

    def ended(self, completion: Completion) -> bool:
        """Whether a response ended by itself and was not cut at the length limit."""
        return completion.tokens[-1] in self.codec.ends(self._alone(self.actor))

    def logprobs(self, prompts: Sequence[Messages], responses: Sequence[Sequence[int]]) -> Tensor:
        """Return (responses,) log pi(y|x) in nats under the policy as it is now."""
        policy = self._alone(self.actor)
        return summed_logprobs(policy, self.codec, prompts, responses, rows=self._rows)

    @torch.no_grad()
    def experience(self, completions: Sequence[Completion], rewarded: Sequence[bool]) -> Experience:
        """Return responses with the opinions of policy, reference and critic, not yet judged."""
        texts = [(self.codec.prompt(one.example.prompt), one.tokens) for one in completions]
        device = self.accelerator.device
        batch = {name: tensor.to(device) for name, tensor in padded(texts).items()}
        # Column t is about the token that follows it: how likely it is, and, from the critic, what
        # the response will earn from it on, said before it is seen.
        found: dict[str, list[Tensor]] = {"logprobs": [], "reference": [], "values": []}
        for start in range(0, len(completions), self._rows):
            some = {name: tensor[start : start + self._rows] for name, tensor in batch.items()}
            found["logprobs"].append(self._alone(self.actor)(**some))
            found["reference"].append(self._under_reference(some))
            found["values"].append(self._value(self._alone(self.critic), some["input_ids"]))
        thought = {name: torch.cat(parts) for name, parts in found.items()}
        counted = torch.tensor(rewarded, device=device)[:, None]
        nothing = torch.zeros_like(thought["values"])
        mask = (batch["targets"] != IGNORED) & counted
        return Experience(**batch, **thought, mask=mask, advantages=nothing, returns=nothing)

    def _under_reference(self, batch: Mapping[str, Tensor]) -> Any:
        if self._reference is not None:
            return self._reference(**batch).float()
        policy = self._alone(self.actor)
        with policy.disable_adapter():
            return policy(**batch)

    def _alone(self, model: Any) -> Any:
        """Return a model that reads without waiting for other processes, to learn nothing."""
        return self.accelerator.unwrap_model(model)

    def _value(self, critic: Any, input_ids: Tensor) -> Tensor:
        values: Tensor = critic(input_ids=input_ids, use_cache=False).logits[..., 0]
        return values.float()

    def update(self, batch: Experience, *, rate: float) -> dict[str, float] | None:
        """Move policy and critic one step; both losses are means over the batch's tokens.

        The batch is this process's part of it, `rate` the share of the learning rates to use, 0-1.

        Returns:
            `policy_loss`, `value_loss` and `clipped` (the share of tokens whose ratio was held);
            None where no response of the batch has a reward, on any process.

        Raises:
            FloatingPointError: a loss or gradient is not finite; no weight was moved.
        """
        total = self.accelerator.reduce(batch.mask.sum(), "sum")
        if not total:
            return None
        sums = torch.zeros(3, device=self.accelerator.device)
        pieces = list(_pieces(range(len(batch.mask)), self._how.micro_batch_size))
        for number, index in enumerate(pieces, start=1):
            some = batch.rows(index)
            with contextlib.ExitStack() as alone:
                if number < len(pieces):  # processes exchange gradients with the last part only
                    alone.enter_context(self.accelerator.no_sync(self.actor))
                    alone.enter_context(self.accelerator.no_sync(self.critic))
                loss, parts = self._losses(some)
                # Gradients of processes are averaged, and these are shares of a sum.
                share = some.mask.sum() / total * self.accelerator.num_processes
                self.accelerator.backward(loss * share)
            sums += parts * share
        sums = self.accelerator.reduce(sums, "mean")
        self._step(sums, rate)
        return dict(zip(("policy_loss", "value_loss", "clipped"), sums.tolist(), strict=True))

    def _losses(self, some: Experience) -> tuple[Tensor, Tensor]:
        logprobs = self.actor(input_ids=some.input_ids, targets=some.targets)
        values = self._value(self.critic, some.input_ids)
        if not some.mask.any():  # nothing to learn here, but other processes wait for gradients
            return (logprobs.sum() + values.sum()) * 0.0, values.new_zeros(3)
        clip, value_clip = self._settings.clip, self._settings.value_clip
        policy = policy_loss(logprobs, some.logprobs, some.advantages, some.mask, clip=clip)
        value = value_loss(values, some.values, some.returns, some.mask, clip=value_clip)
        moved = ((logprobs - some.logprobs).exp() - 1).abs() > clip
        clipped = moved.masked_select(some.mask).float().mean()
        return policy + value, torch.stack([policy, value, clipped]).detach()

    def _step(self, losses: Tensor, rate: float) -> None:
        norm = self._how.max_grad_norm or float("inf")
        found = [losses.sum()]
        for model in (self.actor, self.critic):
            found.append(self.accelerator.clip_grad_norm_(_trained(model), norm))
        if not all(bool(torch.isfinite(one)) for one in found):
            loss = float(losses.sum())
            raise FloatingPointError(f"the loss ({loss:g}) or its gradient is not finite")
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rates[name] * rate
            optimizer.step()
            optimizer.zero_grad()

    def save_model(self, folder: str) -> None:
        """Write the policy's weights, or its adapter under LoRA, as safetensors."""
        policy = self.accelerator.unwrap_model(self.actor)
        state = self.accelerator.get_state_dict(self.actor)
        if self.accelerator.is_main_process:
            Path(folder).mkdir(parents=True, exist_ok=True)
            policy.save_pretrained(folder, state_dict=state)


@torch.no_grad()
def write(
    policy: Any, codec: Codec, prompts: Sequence[list[int]], **how: Any
) -> list[tuple[int, ...]]:
    """Return what a model writes behind prompts, as token ids; `how` is `generate`'s."""
    # To be written on, prompts are padded in front; to be read, whole texts are padded behind
    # (`padded`), where causal attention never looks.
    width = max(map(len, prompts))
    filler = codec.tokenizer.pad_token_id
    ids = torch.tensor([[filler] * (width - len(ids)) + ids for ids in prompts])
    seen = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    ends = codec.ends(policy)
    written = policy.generate(
        input_ids=ids.to(policy.device),
        attention_mask=seen.to(policy.device),
        eos_token_id=ends,
        pad_token_id=filler,
        **how,
    )
    return [_up_to_end(row, ends) for row in written[:, width:].tolist()]


@contextlib.contextmanager
def _probabilities_expected() -> Iterator[None]:
    """Tell broken weights, which show when the next token is drawn, from other errors."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise FloatingPointError("the policy's probabilities are not finite") from None


def _with_reference(job: TrainingJob, policy: Any) -> tuple[Any, Any | None]:
    """Return what is trained, and the frozen reference where it has weights of its own."""
    add_likelihood_head(policy)
    actor = with_adapter(policy, job).train()
    if job.optimization.lora_rank is not None:
        return actor, None
    reference, _ = load_policy(job)
    add_likelihood_head(reference)
    if job.optimization.precision == "bf16" and torch.cuda.is_available():
        reference.to(torch.bfloat16)
    return actor, reference.eval().requires_grad_(False)


def _critic(job: TrainingJob) -> Any:
    """Return the base model with a head of one value per token, which says 0 at the start."""
    from transformers import AutoConfig, AutoModelForTokenClassification
    from transformers.utils import logging

    config = AutoConfig.from_pretrained(job.model, num_labels=1, classifier_dropout=0.0)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # that the head is new is no news
    try:
        critic = AutoModelForTokenClassification.from_pretrained(
            job.model, config=config, dtype=weights_dtype(job), use_safetensors=True
        )
    except ValueError:
        raise ModelError(
            f"{job.model} ({config.model_type}) cannot be a critic, which PPO needs: use "
            "algorithm=grpo, which has no critic"
        ) from None
    finally:
        logging.set_verbosity(level)
    without_noise(critic)
    critic.score.float()  # trained in any case
    torch.nn.init.zeros_(critic.score.weight)
    if critic.score.bias is not None:
        torch.nn.init.zeros_(critic.score.bias)
    if job.optimization.lora_rank is None:
        return critic.train()
    from peft import get_peft_model

    adapter = adapter_config(job)
    assert adapter is not None
    adapter.task_type, adapter.modules_to_save = "TOKEN_CLS", ["score"]
    return get_peft_model(critic, adapter)


def _trained(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _up_to_end(tokens: list[int], ends: Sequence[int]) -> tuple[int, ...]:
    last = next((at for at, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tuple(tokens[: last + 1])


def _pieces(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))

"""A training from its first step, or its last checkpoint, to the result in `job.out`."""

import shutil
from pathlib import Path
from typing import Any

from mipo_eval.checkpoints import GENERATION_CONFIG
from mipo_eval.errors import ConfigError
from mipo_eval.models.weights import draw_neutrally
from mipo_eval.training.memory import memory_errors
from mipo_eval.training.saved import MarginPairs, Margins, dtype_of, round_files, with_merged
from mipo_eval.training.trainer import (
    ADAPTER,
    STEPS,
    TrainingJob,
    curve_callback,
    is_main_process,
    last_checkpoint,
    load_tokenizer,
    world_size,
)

NOT_MEASURED = "the margin of the saved files was not measured: out of memory"


def run_trainer(
    trainer: Any, job: TrainingJob, pairs: MarginPairs | None = None
) -> tuple[str, ...]:
    """Train to the end, from the last checkpoint if there is one, and save the result to `job.out`.

    The margin of `pairs` is reported as it was learned and as it was saved; returns what is to be
    said of that.

    Raises:
        ConfigError: processes were started that do not train together.
        ModelError: memory runs out, or the loss is not finite.
    """
    from transformers import PrinterCallback

    if trainer.args.world_size != world_size():
        raise ConfigError(
            f"{world_size()} processes were started, but {trainer.args.world_size} train together: "
            "the configuration of accelerate launch does not fit this machine; see docs/training.md"
        )
    trainer.remove_callback(PrinterCallback)  # it writes to stdout, which is for results
    trainer.add_callback(curve_callback(job))
    resumed = last_checkpoint(job.out / STEPS)
    with memory_errors():
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    found = save_result(trainer, job, pairs)
    if found is None:
        return (NOT_MEASURED,) if pairs else ()
    job.report(
        trainer.state.global_step, {"margin_learned": found.learned, "margin_saved": found.saved}
    )
    return (found.remark,) if found.remark else ()


def save_result(trainer: Any, job: TrainingJob, pairs: MarginPairs | None = None) -> Margins | None:
    """Write weights (in the base model's precision), tokenizer and chat template to `job.out`.

    LoRA weights are kept alone in `adapter` and merged into the base model, so that the folder is
    a checkpoint like any other. Of `pairs` the margin is measured before and after, by the main
    process.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    lora = job.optimization.lora_rank is not None
    trainer.save_model(str(job.out / ADAPTER if lora else job.out))  # gathers what is sharded
    unset_hf_deepspeed_config()  # or what one process loads from here on waits for all the others
    trainer.accelerator.wait_for_everyone()
    if pairs:  # room for reading the files
        trainer.accelerator.free_memory(trainer.optimizer)
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.model.zero_grad(set_to_none=True)
    found = _finish(job, lora=lora, pairs=pairs) if is_main_process() else None
    trainer.accelerator.wait_for_everyone()
    return found


def _finish(job: TrainingJob, *, lora: bool, pairs: MarginPairs | None) -> Margins | None:
    adapter = job.out / ADAPTER if lora else None
    if pairs is None:
        _write(job, adapter)
        return None
    with job.stage("checking what is saved", 3 * 2 * len(pairs.chosen)) as told:
        learned = pairs.distances(job.model if lora else job.out, adapter, told=told)
        _write(job, adapter)
        if learned is None:
            return None
        begun = pairs.distances(job.reference or job.model, told=told)
        saved = pairs.distances(job.out, told=told)
    if begun is None or saved is None:
        return None
    return Margins(*(pairs.beta * float((one - begun).mean()) for one in (learned, saved)))


def _write(job: TrainingJob, adapter: Path | None) -> None:
    """Bring what the trainer saved to the form in which it is used."""
    if adapter:
        _save_merged(job, adapter)
    else:
        round_files(job.out, Path(job.model), seed=job.seed)
    load_tokenizer(job).save_pretrained(job.out)
    own = Path(job.model, GENERATION_CONFIG)
    if own.exists():  # rollouts are drawn without it, those who use the result have it again
        shutil.copyfile(own, job.out / GENERATION_CONFIG)
    for folder in (job.out, job.out / ADAPTER):  # a pickle, which nobody should have to trust
        (folder / "training_args.bin").unlink(missing_ok=True)


def _save_merged(job: TrainingJob, adapter: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype_of(Path(job.model)))
    draw_neutrally(base)  # what ships with a base may be no configuration that can be saved
    model = PeftModel.from_pretrained(base, str(adapter))
    with_merged(model, seed=job.seed).save_pretrained(job.out)

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

from mipo_eval.trl.pairs import MipoDataset
from mipo_eval.trl.rewards import PromptDataset, reward_funcs
from mipo_eval.trl.win_rate import WinRateCallback

__all__ = ["MipoDataset", "PromptDataset", "WinRateCallback", "reward_funcs"]

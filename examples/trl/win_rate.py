"""How often a policy wins against what it was before, as it is trained.

python examples/trl/win_rate.py MODEL TEXTS.jsonl
"""

import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from mipo_eval.trl import WinRateCallback

texts = load_dataset("json", data_files=sys.argv[2], split="train")
how = SFTConfig(output_dir="sft", max_steps=4, learning_rate=1e-2, report_to="none", bf16=False)
trainer = SFTTrainer(sys.argv[1], args=how, train_dataset=texts)
trainer.add_callback(WinRateCallback(trainer, "demo", "checker", every=2, limit=8, max_cost=1))
trainer.train()

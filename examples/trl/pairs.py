"""MIPO's pairs in TRL's own trainer.

python examples/trl/pairs.py MODEL
"""

import sys

from trl import DPOConfig, DPOTrainer

from mipo_eval.trl import MipoDataset

model = sys.argv[1]
pairs = MipoDataset(model, "demo", negatives="missing", limit=16)
how = DPOConfig(output_dir="dpo", learning_rate=1e-4, max_steps=2, report_to="none", bf16=False)
trainer = DPOTrainer(model, args=how, train_dataset=pairs)
trainer.train()

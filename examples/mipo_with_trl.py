"""MIPO in TRL's DPOTrainer: pairs, a win rate as it learns, and a comparison at the end.

python examples/mipo_with_trl.py [MODEL]     the demo's model without one: a minute on a CPU
"""

import sys

import torch
from trl import DPOConfig, DPOTrainer

import mipo_eval
from mipo_eval.demo.model import base_model
from mipo_eval.trl import MipoDataset, WinRateCallback

MODEL = sys.argv[1] if len(sys.argv) > 1 else str(base_model())
SUITE, JUDGE = "demo", "checker"  # yours: "items.jsonl" and "gpt-4.1"
OUT = "out/trl"

# The model answers each training item with the user's context (chosen) and without it (rejected).
pairs = MipoDataset(MODEL, SUITE, negatives="missing", limit=128)

how = DPOConfig(
    output_dir=OUT,
    learning_rate=3e-4,  # a million parameters want much; the paper has 1e-6 to 1e-7
    num_train_epochs=1,
    per_device_train_batch_size=8,
    logging_steps=4,
    report_to="none",
    bf16=torch.cuda.is_available(),
)
trainer = DPOTrainer(MODEL, args=how, train_dataset=pairs)
trainer.add_callback(WinRateCallback(trainer, SUITE, JUDGE, every=8, limit=24))
trainer.train()
trainer.save_model(OUT)

before = mipo_eval.evaluate(MODEL, SUITE, JUDGE, limit=60)
after = mipo_eval.evaluate(OUT, SUITE, JUDGE, limit=60)
comparison = mipo_eval.compare(after, before, metric="satisfied")
print(comparison)

"""A judge and mutual information as rewards.

python examples/trl/rewards.py MODEL
"""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from mipo_eval.trl import PromptDataset, reward_funcs

model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
judge = {"judge": "checker", "rates": "preferences"}
rewards = reward_funcs("judge", "mi", tokenizer=tokenizer, model=model, **judge)
how = GRPOConfig(output_dir="grpo", max_steps=2, report_to="none", bf16=False)
prompts = PromptDataset("demo", limit=8)
trainer = GRPOTrainer(model, rewards, args=how, train_dataset=prompts, processing_class=tokenizer)
trainer.train()

"""A suite of your own: questions x users, as a DataFrame; evaluated, and written as a file.

python examples/own_suite.py [MODEL [JUDGE]]     the demo's model and a rule of ours without them
mipo-eval --model MODEL --suite own_suite.jsonl --judge examples/own_judge.yaml
"""

import re
import sys
from pathlib import Path

import pandas as pd

import mipo_eval
from mipo_eval.models.callable import CallableBackend

QUESTIONS = ["How do I brew tea?", "How do I fix a flat tyre?", "How do I plant a rose?"]
USERS = {  # what they say of themselves, and what they wish for
    "ann": ("I am nine. Please be brief.", ["Use at most 30 words."]),
    "bob": ("I like lists.", ["Write a list."]),
    "eve": ("I am in a hurry, and I like lists.", ["Use at most 30 words.", "Write a list."]),
}


def items() -> pd.DataFrame:
    """Return an item a line; only `item_id` and `prompt` are a must."""
    return pd.DataFrame(
        {
            "item_id": f"{question_id}-{user}",
            "prompt": question,
            "context": context,
            "preferences": wishes,
            "user_id": user,  # intervals know that answers to one user,
            "group_id": f"question-{question_id}",  # and to one question, belong together
        }
        for question_id, question in enumerate(QUESTIONS)
        for user, (context, wishes) in USERS.items()
    )


def by_rule(conversations: list[list[dict[str, str]]]) -> list[str]:
    """Rate 5 what follows the wish, else 1; a model as judge gets the same prompts."""
    ratings = []
    for turns in conversations:
        prompt = turns[-1]["content"]
        response = re.search(r"<(\w+:response)>\n(.*?)\n</\1>", prompt, re.DOTALL)[2]
        if "30 words" in prompt:
            followed = len(response.split()) <= 30
        else:
            followed = re.search(r"^(-|\d+\.) ", response, re.MULTILINE) is not None
        ratings.append("5" if followed else "1")
    return ratings


model = sys.argv[1] if len(sys.argv) > 1 else "demo"
judge = sys.argv[2] if len(sys.argv) > 2 else CallableBackend(by_rule, "two rules, version 1")
suite = items()
suite.to_json("own_suite.jsonl", orient="records", lines=True)

result = mipo_eval.evaluate(model, suite, judge)
print(result.to_pandas()[["metric", "value", "low", "high", "n", "unscored"]].to_string())
print(f"\nThe items are in {Path('own_suite.jsonl').resolve()}")

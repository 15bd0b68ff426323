"""A suite made by a program: the same questions for everybody who is described in people.csv.

mipo-eval --model demo --suite neighbours --judge checker --plugin examples/plugins/suites.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

QUESTIONS = {"test": ["How do I brew tea?"], "train": ["How do I fix a bicycle?"]}
PEOPLE = {"ann": "I am nine years old.", "bob": "I am in a hurry."}


def neighbours(split: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Questions of everyday life, asked by two neighbours."""
    file = folder / "people.csv"  # NAME,CONTEXT in each line
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else ()
    people = dict(line.split(",", 1) for line in lines) or PEOPLE
    for number, question in enumerate(QUESTIONS[split]):
        for name, context in people.items():
            about = {"context": context, "user_id": name, "preferences": [f"Serve: {context}"]}
            yield {"item_id": f"{split}-{number}-{name}", "prompt": question, **about}


PLUGINS = {"suites": {"neighbours": neighbours}}

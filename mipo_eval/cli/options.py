"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mipo_eval import settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

store_option: Decorator = click.option(
    "--store",
    default=settings.store_url,
    metavar="URL",
    help="SQLite file or PostgreSQL URL. [default: MIPO_EVAL_STORE or ./mipo-eval.db]",
)

limit_option: Decorator = click.option(
    "--limit", type=click.IntRange(min=1), help="Only the first N items of each task."
)

data_option: Decorator = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of item files. [default: MIPO_EVAL_DATA or ./data]",
)

max_cost_option: Decorator = click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="Stop before a call to a judge that could exceed this; what was answered is kept.",
)

batch_option: Decorator = click.option(
    "--batch",
    is_flag=True,
    help="Judge through the provider's batch service (OpenAI, Gemini): half the price, slower.",
)

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout; progress on stderr."
)

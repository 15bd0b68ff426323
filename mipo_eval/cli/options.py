"""Options that several commands share."""

from collections.abc import Callable
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

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout; progress on stderr."
)

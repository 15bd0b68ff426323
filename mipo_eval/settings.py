"""Where things live, and the environment variables that move them; read at call time."""

import logging
import os
from pathlib import Path

import platformdirs

STORE = "MIPO_EVAL_STORE"
"""URL or file of the store; default `./mipo-eval.db`."""

DATA = "MIPO_EVAL_DATA"
"""Folder of item files; default `./data`."""

CACHE = "MIPO_EVAL_CACHE"
"""Folder for what can be made again (the demo's checkpoints); default the user's cache folder."""

JUDGE = "MIPO_EVAL_JUDGE"
"""Judge that the tasks use when they run under the plain `lm_eval` command."""

ROWS = "MIPO_EVAL_ROWS"
"""YAML file that says what runs are called on the board."""

PRICES = "MIPO_EVAL_PRICES"
"""YAML file of the user's own token prices, added to those that ship."""


def store_url() -> str:
    """Return the store's URL or file."""
    return os.environ.get(STORE, "mipo-eval.db")


def data_dir() -> Path:
    """Return the folder item files are read from."""
    return Path(os.environ.get(DATA, "data"))


def cache_dir() -> Path:
    """Return the folder for what can be made again."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_path("mipo-eval"))


def rows_file() -> Path | None:
    """Return the file that names runs, if there is one."""
    name = os.environ.get(ROWS)
    return Path(name) if name else None


def prices_file() -> Path | None:
    """Return the user's file of token prices, if one is named."""
    name = os.environ.get(PRICES)
    return Path(name) if name else None


def silence_libraries() -> None:
    """Keep the bars and remarks of libraries off the terminal: the command line shows its own.

    To be called before they are imported: tqdm reads its switch only then.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # our message says what it retried for
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for --json
    for name in ("lm_eval", "lm-eval", "transformers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

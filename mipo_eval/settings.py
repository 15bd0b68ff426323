"""Where things live, the environment variables that move them, and the reading of YAML files."""

import errno
import logging
import os
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from mipo_eval.errors import ConfigError

Form = TypeVar("Form")

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


def read_yaml(file: Traversable, what: str, form: type[Form], *, part: str = "") -> Form:
    """Return what a YAML file says, in a form that pydantic can check.

    Raises:
        ConfigError: the file, called `what`, cannot be read or says something else, and in which
            `part`.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        told = parse_yaml(read_text(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} cannot be read: {error}") from None
    try:
        return TypeAdapter(form).validate_python(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(place) for place in first["loc"]) or "the file"
        raise ConfigError(f"{what}: {part}{where}: {first['msg']}") from None


_MOST = 1 << 24
"""Characters of a file that a person wrote."""


def read_text(file: Traversable) -> str:
    """Return what is in a file that a person wrote.

    Raises:
        OSError: it cannot be read, or is too large, as a device is that never ends.
        UnicodeDecodeError: it is not UTF-8.
    """
    with file.open(encoding="utf-8") as stream:
        text = stream.read(_MOST + 1)
    if len(text) > _MOST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return text


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says.

    A key that comes twice is refused, for only the last would count; so are references from one
    place to another, by which ten lines can stand for a billion, and depths that nobody writes.

    Raises:
        ValueError: it is no YAML, or says what is refused.
    """
    import yaml

    try:
        return yaml.load(text, _strict_loader())  # a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        # Besides its own errors: dates that are none, numbers of thousands of digits.
        raise ValueError(" ".join(str(error).split())) from None


_DEEPEST = 50


@cache
def _strict_loader() -> type[Any]:
    import yaml

    class StrictLoader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it refers to another place (*name): write the values out")
            self.depth += 1
            if self.depth > _DEEPEST:
                raise ValueError("it is nested too deeply")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_scalar(self, node: Any) -> Any:
            if "\0" in node.value:
                raise ValueError("it holds the character 0, which no name and no text has")
            node.value.encode()  # raises for half a surrogate pair
            return super().construct_scalar(node)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            made = super().construct_mapping(node, deep=deep)
            if len(made) < len(node.value):
                keys = [str(key.value) for key, _ in node.value]
                twice = next((key for key in keys if keys.count(key) > 1), keys[-1])
                raise ValueError(f"it has the key {twice} twice")
            return made

    return StrictLoader


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

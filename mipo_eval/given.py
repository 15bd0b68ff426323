"""Objects of a program by name: models, suites and judges as the rest of the package knows them.

A function or rows of items become a plug-in of the block in which they are used, and a loaded model
a checkpoint in a temporary folder; so nothing below asks what it was given.
"""

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any, Literal, TypedDict
from weakref import WeakKeyDictionary

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.asked import EvaluationOptions
from mipo_eval.keys import digest
from mipo_eval.models.base import Backend
from mipo_eval.models.callable import CallableBackend, Function
from mipo_eval.plugins import given
from mipo_eval.records import Item

Model = str | Path | Function | CallableBackend | tuple[Any, Any]
"""A name; a function, or one with a name (`CallableBackend(function, "v3")`), whose answers are
found again; or a transformers model with its tokenizer."""
Suite = str | Path | Iterable[Item | Mapping[str, Any]]
"""A name or file, or items: mappings as a line of an item file holds them, also as a DataFrame or a
`datasets.Dataset`."""
Judges = str | Function | Backend | Sequence[str | Function | Backend] | None
"""A name, a function, a backend; several; None: the suite's own."""


class Options(TypedDict, total=False):
    """What may also be said, as by the flags of the same names."""

    prompting: Literal["personalized", "default"]
    system: str
    query: str
    decoding: str | Mapping[str, Any]
    seed: int
    limit: int
    data_dir: Path
    engine: str | Mapping[str, Any]
    controls: bool
    max_cost: float
    batch: bool


_JUDGES: "WeakKeyDictionary[FunctionType, str]" = WeakKeyDictionary()
"""What functions are called that have judged in this program."""
_PYTHON = "python"
"""What stands before the colon of a function's name."""


class Given:
    """The objects of one call, known by name until its block ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._backends: dict[str, Backend] = {}

    def __enter__(self) -> "Given":
        """Know the functions that will be named."""
        self._stack.enter_context(given("backends", _PYTHON, self._backend))
        return self

    def __exit__(self, *_: object) -> None:
        """Forget them, and drop what was written."""
        self._stack.close()

    def _backend(self, model: str) -> Backend:
        """A function of this program, or a backend."""
        return self._backends[model]

    def asked(
        self, suite: Suite | None, judges: Judges, options: Mapping[str, Any]
    ) -> EvaluationOptions:
        """Return what is asked for, but for the model.

        Raises:
            ConfigError: an option is not known.
        """
        known = Options.__annotations__
        if unknown := sorted(options.keys() - known.keys()):
            raise ConfigError(f"unknown {', '.join(unknown)}; known: {', '.join(known)}")
        written = {name: _written(value) for name, value in options.items()}
        several: Sequence[Any] = judges if isinstance(judges, list | tuple) else [judges]
        named = tuple(self.judge(one) for one in several if one is not None)
        return EvaluationOptions(
            suite="" if suite is None else self.suite(suite), judges=named, **written
        )

    def model(self, model: Model) -> tuple[str, str]:
        """Return a model's name, and what tables call it where that is another.

        Raises:
            ConfigError: it is nothing that can be asked.
        """
        if isinstance(model, str | Path):
            return str(model), ""
        if isinstance(model, tuple) and len(model) == 2:
            return self._saved(*model)
        if isinstance(model, CallableBackend) or callable(model):
            return self._function(model)
        raise ConfigError(
            f"a model is a name, a function, or (model, tokenizer), not {type(model).__name__}"
        )

    def _saved(self, model: Any, tokenizer: Any) -> tuple[str, str]:
        if not hasattr(model, "save_pretrained") or not hasattr(tokenizer, "save_pretrained"):
            raise ConfigError(
                "(model, tokenizer) takes a loaded model of transformers with its tokenizer"
            )
        own = str(getattr(model, "name_or_path", "") or "").rstrip("/").rpartition("/")[2]
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="mipo-eval-")))
        for part in (model, tokenizer):
            part.save_pretrained(folder)
        return str(folder), own or type(model).__name__

    def judge(self, judge: str | Function | Backend) -> str:
        """Return a judge's name.

        Raises:
            ConfigError: it is nothing that can be asked.
        """
        if isinstance(judge, str | Path):
            return str(judge)
        if hasattr(judge, "answer") or callable(judge):
            return self._function(judge, judges=True)[0]
        raise ConfigError(f"a judge is a name, a function or a backend: {type(judge).__name__}")

    def _function(self, one: Any, *, judges: bool = False) -> tuple[str, str]:
        """Know a function, or a backend.

        What a function without a name answered is never found again: two of one spelling may be two
        models, and nobody can tell. A function that judges is one judge as long as the program
        runs, so that what it judged can be compared.
        """
        if not hasattr(one, "answer"):
            called = getattr(one, "__qualname__", type(one).__name__).rpartition(".")[2]
            name = f"{called.strip('<>')}-{uuid.uuid4().hex[:8]}"
            if judges and isinstance(one, FunctionType):
                name = _JUDGES.setdefault(one, name)
            one = CallableBackend(one, name)
        name = str(one.identity.get("model") or type(one).__name__)
        self._backends[name] = one
        return f"{_PYTHON}:{name}", name

    def suite(self, suite: Suite) -> str:
        """Return a suite's name; rows of items get one of their content.

        Raises:
            ConfigError: it is no name and has no rows.
        """
        if isinstance(suite, str | Path):
            return str(suite)
        frame: Any = suite
        rows = (
            frame.to_dict("records")
            if hasattr(frame, "to_dict") and hasattr(frame, "columns")
            else suite
        )
        if not isinstance(rows, Iterable) or isinstance(rows, Mapping):
            raise ConfigError(f"a suite is a name, a file or rows, not {type(suite).__name__}")
        items = [_row(row) for row in rows]
        name = f"items-{digest(json.loads(json.dumps(items, default=str)))[:8]}"
        self._stack.enter_context(given("suites", name, lambda *_: items))
        return name


def _row(row: Item | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row as a line of an item file; what a table has no value for is left out."""
    if isinstance(row, Item):
        return row.model_dump()
    if not isinstance(row, Mapping):
        raise ConfigError(f"a row of a suite is an item or a mapping, not {type(row).__name__}")
    plain = {
        key: value.tolist() if hasattr(value, "tolist") else value for key, value in row.items()
    }
    return {
        key: value
        for key, value in plain.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }


def _written(value: Any) -> Any:
    """Return an option as the command line has it: {"top_p": 0.9} is top_p=0.9."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(content)}" for name, content in value.items())
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Plug-ins: negatives, losses, rewards, suites and backends of other people, found by name.

A plug-in is one function. An installed package registers it by an entry point, in the group of
its kind:

    [project.entry-points."mipo_eval.negatives"]
    same-topic = "my_package.pairs:same_topic"

and a single file, named by `--plugin FILE.py`, by a dictionary:

    PLUGINS = {"negatives": {"same-topic": same_topic}}

Its name then stands wherever one of ours does. docs/plugins.md says what each kind of function is
given and returns. Nothing of a package is imported before it is used.
"""

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.keys import digest
from mipo_eval.settings import read_text

KINDS: Mapping[str, str] = {
    "negatives": "train mipo --negatives NAME",
    "losses": "train mipo --set settings.loss=NAME",
    "rewards": "train ppo-mi --set settings.reward=NAME",
    "suites": "--suite NAME",
    "backends": "--judge NAME:MODEL",
}
"""Each kind, and where its name stands."""

_NAME = re.compile(r"\w[\w.+-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A function of somebody else's, known by name; it is imported when it is first used."""

    kind: str
    name: str
    origin: str
    """The package with its version, or the file."""
    source: "EntryPoint | Callable[..., Any]"

    def function(self) -> Callable[..., Any]:
        """Return the function itself.

        Raises:
            ConfigError: it cannot be imported, or is none; one line with the package.
        """
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"{self}: a name is 1 to 64 letters, digits, '_', '-', '+' or '.'")
        found: Any = self.source
        if isinstance(self.source, EntryPoint):
            found = self._guarded(self.source.load, "cannot be imported")
        if not callable(found):
            raise ConfigError(f"{self}: it is {type(found).__name__}, not a function")
        return found  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the function.

        Raises:
            ConfigError: whatever went wrong in it, in one line.
        """
        return self._guarded(self.function(), "failed", *args, **named)

    def listed(self, *args: Any) -> list[Any]:
        """Return all that the function returns or yields, in a list; as a call otherwise."""
        function = self.function()
        found: list[Any] = self._guarded(lambda: list(function(*args)), "failed")
        return found

    def _guarded(self, call: Callable[..., Any], what: str, *args: Any, **named: Any) -> Any:
        try:
            return call(*args, **named)
        except MipoEvalError:
            raise
        except Exception as error:
            raise ConfigError(f"{self}: it {what}: {told(error)}") from error

    @property
    def about(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function()) or "").partition("\n")[0]

    @property
    def key(self) -> str:
        """Digest of where it is from and of the file that it stands in: what it does."""
        function = self.function()
        try:
            text = Path(inspect.getfile(function)).read_text(encoding="utf-8")
        except (OSError, TypeError, UnicodeDecodeError):  # compiled, or an object that is called
            text = ""
        origin = self.origin if isinstance(self.source, EntryPoint) else ""
        return digest([self.kind, self.name, origin, text])

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"plug-in {self.name} ({self.kind}) of {self.origin}"


def told(error: BaseException) -> str:
    """Return what went wrong in somebody else's code, and where, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    if isinstance(error, SyntaxError):
        place = f" (line {error.lineno})"
        return f"{type(error).__name__}: {error.msg}{place}"
    return f"{type(error).__name__}: {error}{place}"


_OF_FILES: list[Plugin] = []


@contextmanager
def loaded(files: Iterable[Path]) -> Iterator[None]:
    """Know the plug-ins of these files within the block.

    Raises:
        ConfigError: a file cannot be run, or registers nothing; one line with the file.
    """
    found = [plugin for file in files for plugin in _read(file)]
    _OF_FILES.extend(found)
    try:
        yield
    finally:
        for plugin in found:
            _OF_FILES.remove(plugin)


@contextmanager
def given(kind: str, name: str, function: Callable[..., Any]) -> Iterator[str]:
    """Know a function by a name within the block, as if a file had registered it."""
    plugin = Plugin(kind=kind, name=name, origin="this program", source=function)
    _OF_FILES.append(plugin)
    try:
        yield name
    finally:
        _OF_FILES.remove(plugin)


def _read(file: Path) -> Iterator[Plugin]:
    try:
        name = f"mipo_eval_plugin_{digest(read_text(file))}"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--plugin {file} cannot be read: {error}") from None
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--plugin {file}: name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, among others, look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"--plugin {file} cannot be run: {told(error)}") from error
    registered = getattr(module, "PLUGINS", None)
    if not isinstance(registered, dict) or not registered:
        raise ConfigError(
            f"--plugin {file} registers nothing: end it with PLUGINS = "
            '{"negatives": {"NAME": function}}'
        )
    for kind, functions in registered.items():
        if kind not in KINDS or not isinstance(functions, dict):
            raise ConfigError(
                f"--plugin {file}: PLUGINS has {kind!r}; it maps kinds ({', '.join(KINDS)}) to "
                "dictionaries of functions by name"
            )
        for name, function in functions.items():
            yield Plugin(kind=kind, name=str(name), origin=f"file {file}", source=function)


def list_plugins(kind: str) -> Sequence[Plugin]:
    """Return all plug-ins of a kind, broken ones too: packages' by name, then those of files."""
    return [*_installed(kind), *(plugin for plugin in _OF_FILES if plugin.kind == kind)]


@cache
def _installed(kind: str) -> tuple[Plugin, ...]:
    points = entry_points(group=f"mipo_eval.{kind}")
    once = {(point.name, point.value, _package(point)): point for point in points}
    return tuple(
        Plugin(kind=kind, name=name, origin=package, source=point)
        for (name, _, package), point in sorted(once.items(), key=lambda entry: entry[0])
    )


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def find_plugin(kind: str, name: str) -> Plugin | None:
    """Return the plug-in of that kind and name, if there is one.

    Raises:
        ConfigError: there are two.
    """
    found = [plugin for plugin in list_plugins(kind) if plugin.name == name]
    if len(found) > 1:
        origins = " and ".join(plugin.origin for plugin in found)
        raise ConfigError(f"{kind}: {name} is registered by {origins}: leave one of them out")
    return found[0] if found else None


def plugin_of(kind: str, name: str, ours: Iterable[str], where: str) -> Plugin | None:
    """Return the plug-in that a setting names, or None where the name is one of `ours`.

    Raises:
        ConfigError: it is neither.
    """
    if name in ours:
        return None
    if found := find_plugin(kind, name):
        return found
    names = dict.fromkeys([*ours, *(plugin.name for plugin in list_plugins(kind))])
    raise ConfigError(
        f"{where}: {name!r} is not known; known: {', '.join(names)}, and what --plugin FILE.py adds"
    )

"""What every command takes beside its own options: a run file, an environment file and logs.

It is given to all commands at once, by `equip`, as is the rule that an option which takes one
value is given once: click would keep the last one, and drop the others without a word.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import click

from mipo_eval.errors import ConfigError

_NOT_IN_FILES = {"help", "version", "config", "print-config"}
LEVELS = ("quiet", "warning", "info", "debug")
_SHARED = (
    click.Option(["--config"], metavar="FILE", type=click.Path(path_type=Path)),
    click.Option(["--print-config"], is_flag=True),
    click.Option(["--env-file"], metavar="FILE", type=click.Path(path_type=Path)),
    click.Option(["--verbosity"], type=click.Choice(LEVELS), default="quiet"),
    click.Option(["--log-file"], metavar="FILE", type=click.Path(path_type=Path)),
)
for _option in _SHARED:  # their one line of help stands in every epilog instead
    _option.hidden, _option.expose_value = True, False
ABOUT = (
    "Every command also takes --config FILE, --print-config, --env-file FILE, --verbosity LEVEL "
    "and --log-file FILE. See docs/config.md."
)


def equip(command: click.Command) -> None:
    """Give a command, and all below it, the shared options and the rules for options.

    A command with an option `--config` of its own, `train`, gets there what a run file holds
    beside its options; one with a `--print-config` prints by itself.
    """
    taken = {parameter.name for parameter in command.params}
    command.params += [option for option in _SHARED if option.name not in taken]
    command.epilog = f"{ABOUT}\n\n{command.epilog}" if command.epilog else ABOUT
    make, parse = command.make_parser, command.parse_args

    def make_parser(context: click.Context) -> Any:
        parser: Any = make(context)
        read = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            given, rest, order = read(args=args)
            if not context.resilient_parsing:
                _refuse_twice(order)
                _prepare(context, given)
            return given, rest, order

        parser.parse_args = parse_args
        return parser

    def parse_and_print(context: click.Context, args: list[str]) -> list[str]:
        rest = parse(context, args)
        if context.meta.pop(_PRINT, False):
            click.echo(_as_yaml(context), nl=False)
            context.exit()
        return rest

    command.make_parser = make_parser  # type: ignore[method-assign, assignment]
    command.parse_args = parse_and_print  # type: ignore[method-assign, assignment]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        equip(below)


_PRINT = "mipo_eval.print_config"
RECIPE = "mipo_eval.recipe"
"""Where a context keeps what a training's run file holds beside options."""


def _refuse_twice(order: Sequence[click.Parameter]) -> None:
    """Refuse an option that takes one value and is given more often."""
    for parameter, count in Counter(order).items():
        single = isinstance(parameter, click.Option) and not parameter.multiple
        if count > 1 and single and not getattr(parameter, "count", False):
            name = _flag(parameter)
            raise click.UsageError(
                f"{name} is given {count} times but takes one value: give it once"
            )


def _prepare(context: click.Context, given: Mapping[str, Any]) -> None:
    """Read the files that options name, before any default is asked for."""
    from mipo_eval.logs import logging_to

    told: dict[str, Any] = {}
    if path := given.get("config"):
        told = _read(context, Path(path))
        context.default_map = told
    shared = {option.name: told.get(option.name or "") for option in _SHARED} | dict(given)
    if shared["env_file"]:
        _read_environment(Path(shared["env_file"]))
    if shared["log_file"] or shared["verbosity"]:
        level = str(shared["verbosity"] or LEVELS[0])
        if level in LEVELS:  # click words the error otherwise
            log = Path(shared["log_file"]) if shared["log_file"] else None
            context.with_resource(logging_to(level, log, command=context.command_path))
    if given.get("print_config") and not _has_own(context.command, "print_config"):
        context.meta[_PRINT] = True


def _has_own(command: click.Command, name: str) -> bool:
    return any(one.name == name and one not in _SHARED for one in command.params)


def run_keys(command: click.Command) -> dict[str, click.Parameter]:
    """Return what may stand in a command's run file: its options and arguments, by key."""
    keys = {_flag(parameter).lstrip("-"): parameter for parameter in command.params}
    return {key: parameter for key, parameter in keys.items() if key not in _NOT_IN_FILES}


def _flag(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.name or ""


def _read(context: click.Context, path: Path) -> dict[str, Any]:
    """Return what a run file says, by the names of parameters.

    Raises:
        ConfigError: it cannot be read, or has a key that is no option.
    """
    from mipo_eval.settings import read_yaml

    told: Mapping[str, Any] = read_yaml(path, f"--config {path}", dict[str, Any])
    known = run_keys(context.command)
    has_recipe = _has_own(context.command, "config")
    found, rest = {}, {}
    for written, value in told.items():
        key = written.replace("_", "-")
        parameter = known.get(key) or known.get(written)
        # A part of a recipe may be called as an option is, as `pairs`; its options are no mappings.
        if parameter is None or (has_recipe and isinstance(value, Mapping)):
            rest[written] = value
        elif value is not None:
            found[parameter.name or ""] = _value(parameter, value)
    if has_recipe:
        context.meta[RECIPE] = rest
    elif rest:
        written = next(iter(rest))
        near = get_close_matches(written.replace("_", "-"), known, n=1, cutoff=0.0)
        raise ConfigError(
            f"--config {path}: {context.command_path} has no option {written!r}; the nearest is "
            f"{', '.join(near) or 'none'}"
        )
    return found


def _value(parameter: click.Parameter, value: Any) -> Any:
    """Return a value of a file as it would be typed: several as a list, settings with =."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_typed(one)}" for key, one in value.items())
    several = parameter.multiple or parameter.nargs == -1
    if several:
        return [_typed(one) for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, list):
        raise ConfigError(
            f"{_flag(parameter).lstrip('-')} takes one value, but the file has a list"
        )
    return _typed(value)


def _typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_environment(path: Path) -> None:
    """Take the variables of a file that the environment does not have.

    Raises:
        ConfigError: it cannot be read.
    """
    import os

    from dotenv import dotenv_values

    from mipo_eval.settings import read_text

    try:
        told = dotenv_values(stream=StringIO(read_text(path)), interpolate=False)
        for name, value in told.items():
            if value is not None:
                os.environ.setdefault(name, value)
    except (OSError, ValueError) as error:  # also of what is no name or no value of a variable
        raise ConfigError(f"--env-file {path} cannot be read: {error}") from None


def _as_yaml(context: click.Context) -> str:
    """Return all that a command goes by as a run file, without secrets."""
    import yaml

    from mipo_eval.keys import masked_values

    told = {key: value for key, value in _effective(context) if value not in (None, "")}
    shown = yaml.safe_dump(masked_values(told), sort_keys=False, allow_unicode=True)
    return shown if told else ""


def _effective(context: click.Context) -> Iterator[tuple[str, Any]]:
    for key, parameter in run_keys(context.command).items():
        name = parameter.name or ""
        value = context.params.get(name, (context.default_map or {}).get(name))
        if isinstance(value, list | tuple):
            yield key, [str(one) if isinstance(one, Path) else one for one in value] or None
        else:
            yield key, str(value) if isinstance(value, Path) else value

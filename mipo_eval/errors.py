"""The error tree: everything a user can act on, and nothing else.

    MipoEvalError
    |-- ConfigError       a name, option or setting is wrong; nothing was run
    |-- DataError         an item file or data set is wrong; says file, line and field
    |-- ModelError        the model under evaluation cannot be loaded or asked
    |   `-- ChatTemplateError
    |-- BackendError      a judge cannot be asked; finished calls are kept
    `-- StoreError        the store cannot be opened, read or written

The command line prints the message of a `MipoEvalError` as one line and exits with 2. Any other
exception is a bug: traceback and exit 1. A message says what is wrong, where, and what to do now.
"""


class MipoEvalError(Exception):
    """Base of every error a user can act on; shown without a traceback."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; its kind, where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class ConfigError(MipoEvalError):
    """A name, option or setting is wrong; nothing was run."""


class DataError(MipoEvalError):
    """An item file or data set is wrong; the message names file, line and field."""


class ModelError(MipoEvalError):
    """The model under evaluation cannot be loaded or asked; stored responses are kept."""


class ChatTemplateError(ModelError):
    """A chat template refuses a conversation."""


class BackendError(MipoEvalError):
    """A judge's backend cannot be asked; finished calls are kept and the run can resume."""


class StoreError(MipoEvalError):
    """The store cannot be opened, read or written; what was committed before is intact."""

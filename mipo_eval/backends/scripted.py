"""A backend that replays replies: for tests, examples, and replies collected elsewhere."""

import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mipo_eval.backends.base import Failure, Reply, Request
from mipo_eval.errors import BackendError, DataError
from mipo_eval.keys import digest

Outcome = str | Reply | Failure
"""A string is short for a reply of that text."""

Script = Sequence[Outcome] | Mapping[str, Outcome] | Callable[[Request], Outcome]


class ScriptedBackend:
    """Replays `script`.

    Args:
        script: replies in order, the first to the first request; or a mapping from the text of a
            request's last message to its reply; or a function of the request.
        name: part of the identity; give two scripts two names to keep their calls apart.

    Attributes:
        asked: the requests answered so far, in order.

    Example:
        >>> backend = ScriptedBackend(["4", Failure(kind="timeout", detail="too slow"), "2"])
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        self._script = script
        self._name = name
        self.asked: list[Request] = []

    @classmethod
    def from_file(cls, path: str | Path) -> "ScriptedBackend":
        """Return a backend that replays a JSONL file, one reply per line.

        A line is `{"reply": "4"}`, in the order of the requests; or, on every line,
        `{"prompt": "<text of the last message>", "reply": "4"}`, in any order.

        Raises:
            DataError: the file cannot be read or a line is not of this form.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        prompts = {prompt for prompt, _ in rows if prompt is not None}
        name = f"scripted-{digest(rows)[:12]}"
        if not prompts:
            return cls([reply for _, reply in rows], name=name)
        if len(prompts) != len(rows):
            raise DataError(f"{path}: prompts must be on every line, and each only once")
        return cls({prompt: reply for prompt, reply in rows if prompt is not None}, name=name)

    @property
    def identity(self) -> Mapping[str, str]:
        """The script's name."""
        return {"backend": "scripted", "model": self._name}

    async def check(self) -> None:
        """Do nothing: a script is always there."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Yield each request with its outcome, in order.

        Raises:
            BackendError: the script holds no reply for a request.
        """
        for request in requests:
            outcome = self._outcome(request)
            self.asked.append(request)
            yield request, Reply(text=outcome) if isinstance(outcome, str) else outcome

    def _outcome(self, request: Request) -> Outcome:
        if callable(self._script):
            return self._script(request)
        try:
            if isinstance(self._script, Mapping):
                return self._script[request.messages[-1].content]
            return self._script[len(self.asked)]
        except (KeyError, IndexError):
            start = request.messages[-1].content[:60]
            raise BackendError(
                f"the script holds no reply for request {len(self.asked) + 1} ({start!r}...)"
            ) from None


def _row(path: Path, number: int, line: str) -> tuple[str | None, str]:
    try:
        row = json.loads(line)
        reply, prompt = row["reply"], row.get("prompt")
    except (ValueError, KeyError, TypeError, AttributeError):
        reply = prompt = None
    if not isinstance(reply, str) or not isinstance(prompt, str | None):
        raise DataError(f'{path}, line {number}: needs {{"reply": TEXT}}, with "prompt" if wanted')
    return prompt, reply

"""The tests' OpenAI server in a process of its own, for benchmarks that ask it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).parents[1]


class JudgeServer:
    """The tests' OpenAI server in a process of its own, as a context manager."""

    def __init__(self, latency: float) -> None:
        command = [sys.executable, "-m", "tests.servers.openai_server", "--latency", str(latency)]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def told(self) -> dict[str, float]:
        """Stop the server and return what it counted; `seconds` end with its last answer."""
        told, _ = self._process.communicate()
        counted: dict[str, float] = json.loads(told)
        return counted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

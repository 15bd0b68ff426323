"""A server of the OpenAI protocol in a process of its own, for benchmarks that ask it.

It does as little as it can, so that what is measured is who asks: a request is found by its length,
its text is not looked at, and every one gets the same answer after the latency. It waits exactly:
asyncio rounds up to the next millisecond, which is 5 % of 20 ms.

    python -m benchmarks.judge_server 0.2      # prints its URL, serves until its input is closed
"""

import asyncio
import ctypes
import json
import re
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from tests.servers.openai_server import completion

REPOSITORY = Path(__file__).parents[1]
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _http(status: str, value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


_ANSWER = _http("200 OK", completion("4"))
_MODELS = _http("200 OK", {"object": "list", "data": [{"id": "judge", "object": "model"}]})
_NOWHERE = _http("404 Not Found", {"error": {"message": "no such path"}})


class JudgeServer:
    """The server in a process of its own, as a context manager."""

    def __init__(self, latency: float) -> None:
        command = [sys.executable, "-m", "benchmarks.judge_server", str(latency)]
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


class _Exact(selectors.EpollSelector):
    """Waits by a timer of Linux, which knows nanoseconds, in place of epoll's milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
        # Not known to the class: it only wakes up.
        vars(self)["_selector"].register(self._timer, selectors.EVENT_READ)

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            self._wake_in(0)
            return super().select(timeout)
        self._wake_in(max(1, int(1e9 * timeout)))
        return super().select(None)

    def _wake_in(self, nanoseconds: int) -> None:
        """Set the timer once; 0: never."""
        when = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 1_000_000_000))
        self._libc.timerfd_settime(self._timer, 0, when, None)


class _Counted:
    def __init__(self) -> None:
        self.calls = 0
        self.first = self.last = 0.0

    def add(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.calls += 1


class _Connection(asyncio.Protocol):
    def __init__(self, latency: float, counted: _Counted) -> None:
        self._latency, self._counted = latency, counted
        self._got = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._got, 0, end)
            stop = end + 4 + (int(found[1]) if found else 0)
            if len(self._got) < stop:
                return
            path, self._got = self._got.split(b" ", 2)[1], self._got[stop:]
            if not path.endswith(b"/chat/completions"):
                self._write(_MODELS if path.endswith(b"/models") else _NOWHERE)
                continue
            self._counted.add()
            loop = asyncio.get_running_loop()
            loop.call_later(self._latency, self._write, _ANSWER)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(latency: float, counted: _Counted) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(
        lambda: _Connection(latency, counted), "127.0.0.1", 0, backlog=2048
    )
    host, port = server.sockets[0].getsockname()[:2]
    print(f"http://{host}:{port}/v1", flush=True)

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    server.close()


def main() -> None:
    """Serve until standard input closes, then tell what was counted."""
    latency, counted = float(sys.argv[1]), _Counted()
    loop = asyncio.SelectorEventLoop(_Exact())
    loop.run_until_complete(_serve(latency, counted))
    seconds = counted.last + latency - counted.first if counted.calls else 0.0
    print(json.dumps({"calls": counted.calls, "seconds": seconds}))


if __name__ == "__main__":
    main()

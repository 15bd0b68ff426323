"""A small HTTP/1.1 server in a thread of its own, for servers that misbehave on command.

Standard web frameworks try hard to send valid answers; these servers must also be able to cut a
body short, hang, or send nonsense, so this one writes bytes to the socket itself.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.waiting import HANG


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as the server saw it."""

    number: int
    """0 for the first call to this path."""
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    """The decoded JSON body, the bytes of another type, or None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What the server does with one request."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the answer."""
    cut: bool = False
    """Send half of the body, then close the connection."""
    drop: bool = False
    """Close the connection without an answer."""
    raw: bytes | None = None
    """Exactly these bytes instead of an HTTP answer."""


def json_act(value: Any, **options: Any) -> Act:
    """An answer whose body is `value` as JSON."""
    return Act(body=json.dumps(value).encode(), **options)


class Server:
    """Serves `handle` on a loopback port while used as a context manager.

    Args:
        handle: decides what to do with each call.
        keep: keep the calls in `calls`; False for millions of them.
    """

    def __init__(self, handle: Callable[[Call], Act], *, keep: bool = True) -> None:
        self._handle = handle
        self._keep = keep
        self._counts: dict[str, int] = {}
        self.calls: list[Call] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def count(self, suffix: str = "") -> int:
        """How many calls there were to paths that end in `suffix`."""
        return sum(n for path, n in self._counts.items() if path.endswith(suffix))

    def start(self, port: int = 0) -> Self:
        """Start listening and return at once; 0 takes a free port."""
        self._thread.start()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._connected, "127.0.0.1", port, backlog=2048)

        self._server = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(HANG)
        return self

    def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        server = self._server

        async def close() -> None:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(HANG)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the server is stopping
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = dict(
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        )
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        path = path.partition("?")[0]
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        usual = "" if method == "PUT" else "application/json"  # a file, of whatever kind
        is_json = headers.get("content-type", usual).startswith("application/json")
        body = (json.loads(raw) if is_json else raw) if raw else None
        call = Call(number=number, method=method, path=path, headers=headers, body=body)
        if self._keep:
            self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            act = self._handle(call)
            if act.delay:
                await asyncio.sleep(act.delay)
        finally:
            self.in_flight -= 1
        return await _send(act, writer)


async def _send(act: Act, writer: asyncio.StreamWriter) -> bool:
    """Write the answer; False when the connection is to be closed."""
    if act.drop:
        return False
    if act.raw is not None:
        writer.write(act.raw)
        await writer.drain()
        return False
    lines = [f"HTTP/1.1 {act.status} X", f"content-length: {len(act.body)}"]
    lines += [f"{name}: {value}" for name, value in act.headers.items()]
    if not any(name.lower() == "content-type" for name in act.headers):
        lines.append("content-type: application/json")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    writer.write(head + (act.body[: len(act.body) // 2] if act.cut else act.body))
    await writer.drain()
    return not act.cut

"""A real `vllm serve` on this machine's CPU, for tests marked `vllm`."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import wait_until_served

ENVIRONMENT = Path(__file__).parents[2] / ".venv-vllm"
CPU_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB; the default takes most of the memory
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, kw_only=True)
class VllmServer:
    """A server that answers `/health`."""

    url: str
    """The base of the OpenAI-compatible API, ending in `/v1`."""
    model: str
    """The name it serves the model under."""
    log: Path


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and the engine processes it started (they share its process group)."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=60)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def serve(
    environment: Path, model: Path, log: Path, options: Sequence[str] = ()
) -> Iterator[VllmServer]:
    """Serve the checkpoint in `model` until the block ends."""
    port = free_port()
    name = model.name
    where = ("--served-model-name", name, "--host", "127.0.0.1", "--port", str(port))
    vllm = str(environment / "bin" / "vllm")
    command = (vllm, "serve", str(model), *where, "--dtype", "float32", *options)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | CPU_SETTINGS,
            start_new_session=True,
        )
    try:
        wait_until_served(f"http://127.0.0.1:{port}/health", process, log)
        yield VllmServer(url=f"http://127.0.0.1:{port}/v1", model=name, log=log)
    finally:
        stop(process)


@pytest.fixture(scope="session")
def vllm_environment() -> Path:
    """The virtual environment that has vLLM and this project."""
    if not (ENVIRONMENT / ".complete").exists():
        pytest.skip("no vLLM: `make test-vllm` builds .venv-vllm")
    return ENVIRONMENT


@pytest.fixture(scope="session")
def vllm_server(
    tmp_path_factory: pytest.TempPathFactory, vllm_environment: Path
) -> Iterator[Callable[..., VllmServer]]:
    """A function `(model, *options) -> VllmServer`; each model is served once per session.

    Starting takes about a minute, so tests share the servers; all end with the session.
    """
    servers: dict[tuple[str, ...], VllmServer] = {}
    with ExitStack() as running:

        def start(model: Path, *options: str) -> VllmServer:
            key = (str(model), *options)
            if key not in servers:
                log = tmp_path_factory.mktemp("vllm") / "server.log"
                servers[key] = running.enter_context(serve(vllm_environment, model, log, options))
            return servers[key]

        yield start

"""The part of the hub's protocol by which a data set is found and its files are fetched."""

import hashlib
import json
from collections.abc import Mapping

from tests.servers.http import Act, Call, Server, json_act

COMMIT = "a" * 40
Repositories = Mapping[str, Mapping[str, bytes]]
"""Data set, as OWNER/NAME, to its files."""


def hub_server(repositories: Repositories) -> Server:
    """Return a server whose address is an `HF_ENDPOINT`."""

    def handle(call: Call) -> Act:
        act = answer(call)
        if call.method != "HEAD":
            return act
        lines = [
            f"HTTP/1.1 {act.status} X",
            f"content-length: {len(act.body)}",
            "connection: close",
        ]
        lines += [f"{name}: {value}" for name, value in act.headers.items()]
        return Act(raw=("\r\n".join(lines) + "\r\n\r\n").encode())

    def answer(call: Call) -> Act:
        parts = call.path.strip("/").split("/")
        parts = parts[1:] if parts[0] == "api" else parts
        files = repositories.get("/".join(parts[1:3]))
        if parts[0] != "datasets" or files is None:
            return Act(status=404, headers={"x-error-code": "RepoNotFound"})
        if parts[3:4] == ["resolve"]:
            return _file(files.get("/".join(parts[5:])))
        listed = [
            {"type": "file", "path": name, "size": len(content), "oid": "b" * 40}
            for name, content in files.items()
        ]
        if parts[3:4] in (["tree"], ["paths-info"]):
            return json_act(listed)
        return json_act(
            {
                "id": "/".join(parts[1:3]),
                "sha": COMMIT,
                "private": False,
                "siblings": [{"rfilename": name} for name in files],
                "tags": [],
            }
        )

    return Server(handle)


def _file(content: bytes | None) -> Act:
    about = {"x-repo-commit": COMMIT}
    if content is None:
        return Act(status=404, headers=about | {"x-error-code": "EntryNotFound"})
    about["etag"] = f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
    return Act(body=content, headers=about)


def jsonl(*rows: object) -> bytes:
    """Return rows as the content of a JSONL file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(**splits: str) -> bytes:
    """Return the README that says which file is which split."""
    files = [f"  - split: {split}\n    path: {path}" for split, path in splits.items()]
    head = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    return (head + "\n".join(files) + "\n---\n").encode()

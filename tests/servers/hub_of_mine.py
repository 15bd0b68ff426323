"""The part of the hub's protocol by which repositories are made, written and read back."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.servers.http import Act, Call, Server, json_act


@dataclass
class Hub:
    """What is in it, and what is refused; `serve` gives a server whose address is its endpoint."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By "models/OWNER/NAME" or "datasets/OWNER/NAME": content by path."""
    private: dict[str, bool] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    """The repository of each."""
    token: str | None = None
    """The only one that may write."""
    lfs: dict[str, bytes] = field(default_factory=dict)
    """What was uploaded beside git, by its SHA-256."""
    server: Server | None = None

    def serve(self) -> Server:
        """Return the server, to be used as a context manager."""
        self.server = Server(self._answer)
        return self.server

    def head(self, name: str) -> str:
        """The commit a repository is at."""
        state = repr(sorted(self.files[name].items()))
        return hashlib.sha1(state.encode(), usedforsecurity=False).hexdigest()

    def _answer(self, call: Call) -> Act:  # noqa: C901, PLR0911 - one protocol, a line a path
        if call.method == "HEAD":
            act = self._resolve(call)
            lines = [f"HTTP/1.1 {act.status} X", f"content-length: {len(act.body)}"]
            lines += [f"{name}: {value}" for name, value in act.headers.items()]
            return Act(raw=("\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode())
        if call.method == "GET" and "/resolve/" in call.path:
            return self._resolve(call)
        if call.method == "PUT":
            self.lfs[call.path.rpartition("/")[2]] = call.body
            return Act()
        if self.token and call.headers.get("authorization") != f"Bearer {self.token}":
            return json_act({"error": "Invalid credentials"}, status=401)
        if call.path == "/api/repos/create":
            return self._create(call.body)
        if call.path == "/api/validate-yaml":
            return json_act({"errors": [], "warnings": []})
        if call.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(call.body)["objects"]
            return json_act({"transfer": "basic", "objects": [self._asked(one) for one in asked]})
        kind, owner, own, *rest = [*call.path.strip("/").split("/")[1:], "", "", ""]
        name = f"{kind}/{owner}/{own}"
        if name not in self.files:
            return json_act(
                {"error": "Repository not found"},
                status=404,
                headers={"x-error-code": "RepoNotFound"},
            )
        if rest[:1] == ["preupload"]:
            return json_act({"files": [self._mode(one) for one in call.body["files"]]})
        if rest[:1] == ["commit"]:
            return self._commit(name, call.body)
        return json_act({"id": f"{owner}/{own}", "sha": self.head(name), "siblings": []})

    def _resolve(self, call: Call) -> Act:
        parts = call.path.strip("/").split("/")
        kind = "datasets" if parts[0] == "datasets" else "models"
        owner, own, _, _, *path = parts[kind == "datasets" :]
        name = f"{kind}/{owner}/{own}"
        content = self.files.get(name, {}).get("/".join(path))
        if content is None:
            return Act(status=404, headers={"x-error-code": "EntryNotFound"})
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return Act(body=content, headers={"etag": f'"{etag}"', "x-repo-commit": self.head(name)})

    def _create(self, asked: dict[str, Any]) -> Act:
        kind = f"{asked.get('type') or 'model'}s"
        name = f"{kind}/{asked.get('organization', 'me')}/{asked['name']}"
        url = f"{self._address}/{name.removeprefix('models/')}"
        if name in self.files:
            return json_act({"error": "You already created this", "url": url}, status=409)
        self.files[name] = {".gitattributes": b""}
        self.private[name] = asked.get("visibility") == "private"
        return json_act({"url": url})

    @property
    def _address(self) -> str:
        assert self.server is not None
        return self.server.address

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if file["path"].endswith(".parquet") else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _asked(self, file: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self._address}/upload/{file['oid']}"}
        return {**file, "actions": {"upload": upload}}

    def _commit(self, name: str, body: bytes) -> Act:
        lines = [json.loads(line) for line in body.splitlines()]
        parent = lines[0]["value"].get("parentCommit")
        if parent not in {None, self.head(name)}:
            return json_act({"error": "A commit has happened since"}, status=412)
        for line in lines[1:]:
            told = line["value"]
            if line["key"] == "file":
                self.files[name][told["path"]] = base64.b64decode(told["content"])
            else:
                self.files[name][told["path"]] = self.lfs[told["oid"]]
        self.commits.append(name)
        url = f"{self._address}/{name.removeprefix('models/')}/commit/{self.head(name)}"
        return json_act({"commitUrl": url, "commitOid": self.head(name), "hookOutput": ""})

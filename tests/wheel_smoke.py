"""Does the wheel work alone? Run by `make wheel-test` with the interpreter it is installed in.

Outside the checkout, every package must come from the wheel, and the main job must run: data
files that did not ship would be missed here.
"""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath


def packages() -> list[str]:
    """The import names of the packages that the wheel says it installed."""
    files = importlib.metadata.files("mipo-eval") or []
    folders = {PurePosixPath(file).parent for file in files if file.name == "__init__.py"}
    return sorted(".".join(folder.parts) for folder in folders)


def command(*arguments: str, folder: str) -> str:
    """Return what the installed command prints, run in `folder` with its store there."""
    mipo_eval = str(Path(sys.executable).with_name("mipo-eval"))
    environment = os.environ | {"MIPO_EVAL_STORE": str(Path(folder, "store.db"))}
    done = subprocess.run(
        (mipo_eval, *arguments), cwd=folder, env=environment, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode()


def main() -> None:
    """Import everything, then evaluate the embedded model."""
    names = packages()
    assert "mipo_eval.tasks" in names
    for name in names:
        file = importlib.import_module(name).__file__
        assert file is not None
        assert Path(file).is_relative_to(sys.prefix), f"{name} comes from {file}"
    with tempfile.TemporaryDirectory() as folder:
        version = importlib.metadata.version("mipo-eval")
        assert version in command("--version", folder=folder)
        main_job = ("--model", "demo", "--suite", "demo", "--limit", "24", "--json")
        run = json.loads(command(*main_job, folder=folder))
        metrics = {score["metric"]: score for score in run["scores"]}
        assert metrics["win_rate_tie_inclusive"]["n"] == 24
        assert run["run_id"] in command("runs", "--json", folder=folder)
    sys.stdout.write(f"the wheel of mipo-eval {version} works alone: {len(names)} packages\n")


if __name__ == "__main__":
    main()

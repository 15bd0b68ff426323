"""The commands of a grid, for a shell or for SLURM."""

import shlex
from collections.abc import Iterator, Sequence

from mipo_eval.grid.file import Slurm
from mipo_eval.grid.steps import KINDS, Step, StepKind

_AFTER = {
    "train": "in any order",
    "evaluate": "in any order, when the trainings are done",
    "judge": "in any order, when both sides are evaluated",
}


def command_of(step: Step, store: Sequence[str]) -> str:
    """Return a step's command for a shell."""
    return shlex.join(["mipo-eval", *step.arguments, *store])


def _stages(steps: Sequence[Step]) -> Iterator[tuple[StepKind, list[Step]]]:
    """Yield the kinds of steps that there are, with their steps."""
    for kind in KINDS:
        if own := [step for step in steps if step.kind == kind]:
            yield kind, own


def shell_script(steps: Sequence[Step], store: Sequence[str]) -> str:
    """Return the commands, one a line, stage by stage."""
    lines = []
    for kind, own in _stages(steps):
        lines.append(f"# {kind}: {len(own)}, {_AFTER[kind]}")
        lines += [command_of(step, store) for step in own]
    return "\n".join(lines)


def slurm_script(
    steps: Sequence[Step], store: Sequence[str], slurm: Slurm, more: Sequence[str] = ()
) -> str:
    """Return a script that gives SLURM an array of jobs per stage, each when the last has ended.

    A job whose own training failed fails, too; those of the others are not held up by it.

    Args:
        steps: what is to be done.
        store: the store's flag, if it needs one.
        slurm: options of sbatch, as the grid's file has them.
        more: options for all jobs.
    """
    lines = ["#!/bin/bash", "set -e"]
    before = ""
    for kind, own in _stages(steps):
        lines += [
            f"{kind}=$(sbatch --parsable{before} <<'END'",
            "#!/bin/bash",
            f"#SBATCH --job-name=mipo-{kind}",
            f"#SBATCH --array=1-{len(own)}",
            *(f"#SBATCH {option}" for option in (*slurm.all, *getattr(slurm, kind), *more)),
            'case "$SLURM_ARRAY_TASK_ID" in',
            *(f"{n}) {command_of(step, store)} ;;" for n, step in enumerate(own, start=1)),
            "esac",
            "END",
            ")",
        ]
        before = f' --dependency="afterany:${{{kind}%%;*}}"'
        lines.append(f'echo "{kind}: ${{{kind}}}"')
    return "\n".join(lines)

"""Why a measured number must not be read beside the paper's: its judge, ties, items or wording."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from mipo_eval.judges.presets import prompt_for
from mipo_eval.reports.names import model_label
from mipo_eval.reports.paper import CHECKED, JUDGED, TASKS
from mipo_eval.reports.paper_entries import SIZES, Warned
from mipo_eval.signature import Signature, short
from mipo_eval.store.judges import StoredJudge, reasons_text
from mipo_eval.tasks.suites import SUITES

JUDGES = {"llama": "Llama-3-8B-Instruct", "qwen": "Qwen2.5-14B-Instruct"}
"""A word in a model's name to the paper's judge of such models."""
_MANY_TIES = 50.0
"""Percent; where a tie is a win, such a rate says little of the model."""


class _Number(Protocol):
    """What of a cell of the leaderboard is looked at."""

    @property
    def n(self) -> int | None: ...
    @property
    def tie_rate(self) -> float | None: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def differs(self) -> Mapping[str, tuple[str | None, str | None]]: ...


def judge_model(judge: StoredJudge) -> str:
    """Return the name of a judge's model."""
    return model_label(str((judge.spec.get("backend") or {}).get("model", judge.name)))


def paper_judge(model: str) -> str | None:
    """Return the judge that the paper gives a model; None for other families."""
    return next((judge for word, judge in JUDGES.items() if word in model.lower()), None)


def is_paper_judge(judge: StoredJudge, model: str) -> bool:
    """Return whether a judge is the one that the paper gives a model."""
    wanted = paper_judge(model)
    return wanted is not None and judge_model(judge).lower().endswith(wanted.lower())


def warnings_of(
    cell: _Number, dataset: str, model: str, judge: StoredJudge | None, failings: Sequence[str]
) -> tuple[Warned, ...]:
    """Return what is to be said of a number of a data set before it is compared with the paper's.

    Args:
        cell: the number.
        dataset: as the paper calls it.
        model: whose number it is.
        judge: who judged; None where nobody did.
        failings: why the judge must not be believed.
    """
    return (*_of_judge(cell, model, judge, failings), *_of_items(cell, dataset))


def _of_judge(
    cell: _Number, model: str, judge: StoredJudge | None, failings: Sequence[str]
) -> Iterator[Warned]:
    if failings and judge is not None:
        yield Warned(f"judge {judge.label} {reasons_text(failings)}")
    if judge is not None and not is_paper_judge(judge, model):
        wanted = paper_judge(model)
        yield Warned(f"not the paper's judge{f', {wanted}' if wanted else ''}", judge.label)
    prompt = short(prompt_for("rubric").hash)
    if judge is not None and cell.signature.parts.get("prompt", prompt) != prompt:
        yield Warned("the judge has another prompt than the one for the paper's protocol")
    if cell.tie_rate is not None and cell.tie_rate > _MANY_TIES:
        yield Warned(
            "more than half of the verdicts are ties, which count as wins", f"{cell.tie_rate:.1f} %"
        )


def _of_items(cell: _Number, dataset: str) -> Iterator[Warned]:
    wanted = SIZES.get(dataset)
    if wanted is not None and cell.n != wanted:
        yield Warned(f"{dataset}: n is not the paper's {wanted}", f"{cell.n or 'not known'}")
    parts = cell.signature.parts
    if differing := _wording(cell.signature, dataset):
        yield Warned(f"{dataset}: not asked in the paper's wording", differing)
    if parts.get("reference") == "published":
        yield Warned(f"{dataset}: published references; the paper has references of a model")
    if cell.differs:
        told = ", ".join(f"{name} {own} (not {its})" for name, (its, own) in cell.differs.items())
        yield Warned("made differently from most of its column", told)


def _wording(made: Signature, dataset: str) -> str:
    """Return the parts of a signature by which items were asked otherwise than in the paper."""
    if dataset not in {*JUDGED, *CHECKED}:
        return ""
    if "source" in made.parts:
        return "made by another tool"
    suite = SUITES.get(made.parts.get("suite", "").partition("@")[0])
    task = TASKS[dataset]
    if suite is None or task not in {one.name for one in suite.tasks}:
        suite = SUITES[task]
    key = suite.wording_key
    form = "query" if dataset in JUDGED else "answer"
    wanted = {"query": key and short(key), "form": form, "system": None}
    own = {name: made.parts.get(name) for name in wanted}
    own["form"] = own["form"] or "query"
    differing = [f"{name} {own[name]}" for name in wanted if own[name] != wanted[name]]
    return ", ".join(part.replace("None", "not signed") for part in differing)

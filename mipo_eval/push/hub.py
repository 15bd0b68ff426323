"""Runs on the hub: results in the model card of a checkpoint's repository, samples as a data set.

Weights are not uploaded, and repositories made here are private: a suite's items may be somebody
else's. What a card says besides, and results of others, stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from mipo_eval.errors import BackendError, ConfigError, first_line
from mipo_eval.push.parcel import Parcel

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData


_BEGIN, _END = "<!-- results by mipo-eval -->", "<!-- end of results -->"
"""Between them stands what a later push replaces."""
_SECTION = re.compile(rf"\n*{_BEGIN}.*?{_END}\n*", re.DOTALL)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_CARD = "---\ntags:\n- mipo-eval\n---\n\n# {name}\n"
_DATA_CARD = """---
tags:
- mipo-eval
configs:
- config_name: default
  data_files: data/*.parquet
---

# Responses of {name}, with what was said of them

A row an item: what was asked and for whom, the response, and what judges said (`credit`: 1 for a
win over the reference, 0.5 for a tie, 0 for a loss; none where there is no verdict, and why).
Prompts, contexts and references are those of the suite, under its licence.
"""


def to_hub(parcels: Sequence[Parcel], into: str | None) -> list[str]:
    """Write results of one model into the card of its repository, and samples into a data set."""
    if into is None or not _REPOSITORY.fullmatch(into):
        told = "it is missing" if into is None else f"it is {into!r}"
        raise ConfigError(
            f"--to hub needs --into OWNER/NAME, the repository of the checkpoint: {told}"
        )
    if len(models := {parcel.model: None for parcel in parcels}) > 1:
        raise ConfigError(
            f"one repository holds one model, these runs are of {len(models)}: "
            f"{', '.join(models)}; push each by itself"
        )
    from huggingface_hub import HfApi

    with _reaching(into):
        api = HfApi()
        sent = [_put_card(api, parcels, into)]
        if any(parcel.samples for parcel in parcels):
            sent.append(_put_samples(api, parcels, into))
    return sent


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """Say of whatever keeps the hub from taking something what the user can do.

    Raises:
        BackendError: it cannot be reached, or refuses.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    # The client says of an upload that failed only that it did; the cause says why.
    except (OSError, ValueError, RuntimeError, HfHubHTTPError, httpx2.HTTPError) as error:
        reason = first_line(error.__cause__ or error)[:200]
        raise BackendError(
            f"the hub did not take {name} ({reason}): check the name, connect to the network, and "
            "log in with `hf auth login` or HF_TOKEN as somebody who may write there"
        ) from error


def _put_card(api: "HfApi", parcels: Sequence[Parcel], into: str) -> str:
    from huggingface_hub import CommitOperationAdd

    api.create_repo(into, private=True, exist_ok=True)
    commit = api.model_info(into).sha
    card = _card(api, parcels[0], into, commit)
    data = cast("ModelCardData", card.data)
    data.model_name = data.model_name or into.partition("/")[2]
    pushed = {parcel.run_id for parcel in parcels}
    data.eval_results = [
        *(one for one in data.eval_results or () if _run_of(one) not in pushed),
        *(result for parcel in parcels for result in _results(parcel)),
    ]
    tables = "\n\n".join(parcel.texts["scores.md"].strip() for parcel in parcels)
    told = f"{_BEGIN}\n\n{tables}\n\n{_END}"
    card.text = f"{_SECTION.sub(chr(10), card.text).rstrip()}\n\n{told}\n"
    return _commit(
        api, into, "model", [CommitOperationAdd("README.md", str(card).encode())], commit
    )


def _card(api: "HfApi", parcel: Parcel, into: str, commit: str | None) -> "ModelCard":
    """Return the card of the repository, else that of the checkpoint's folder, else a new one."""
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import EntryNotFoundError

    try:
        text = Path(api.hf_hub_download(into, "README.md", revision=commit)).read_text("utf-8")
    except EntryNotFoundError:
        own = Path(parcel.checkpoint, "README.md") if parcel.checkpoint else None
        named = _CARD.format(name=into.partition("/")[2])
        text = own.read_text("utf-8") if own and own.is_file() else named
    try:
        return ModelCard(text)
    except (ValueError, yaml.YAMLError) as error:
        problem = first_line(error)
        raise ConfigError(f"the head of {into}'s README.md cannot be read: {problem}") from None


def _run_of(result: "EvalResult") -> str | None:
    """Return the run that a result of a card is of, if it was written by us."""
    return (result.metric_args or {}).get("run")


def _results(parcel: Parcel) -> Iterator["EvalResult"]:
    """Yield each score as the hub's metadata has it; those without a value have no place there."""
    from huggingface_hub import EvalResult

    told = ("judge", "judge_failings", "n", "unscored", "prompting", "seed", "signature")
    for row in parcel.scores:
        if row["value"] is None:
            continue
        interval = None if row["ci95_low"] is None else [row["ci95_low"], row["ci95_high"]]
        named = {"run": parcel.run_id, "ci95": interval, **{name: row[name] for name in told}}
        by = f", judged by {row['judge']}" if row["judge"] else ""
        yield EvalResult(
            task_type="text-generation",
            dataset_type=row["task"],
            dataset_name=row["task"],
            dataset_split="test",
            metric_type=row["metric"],
            metric_name=f"{row['metric_label']}{by}",
            metric_value=row["value"],
            metric_args={name: value for name, value in named.items() if value is not None},
        )


def _put_samples(api: "HfApi", parcels: Sequence[Parcel], into: str) -> str:
    from huggingface_hub import CommitOperationAdd

    name = f"{into}-samples"
    api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
    files = [
        CommitOperationAdd(f"data/{parcel.run_id}.parquet", _parquet(parcel.samples))
        for parcel in parcels
        if parcel.samples
    ]
    if not api.file_exists(name, "README.md", repo_type="dataset"):
        files.append(CommitOperationAdd("README.md", _DATA_CARD.format(name=into).encode()))
    return _commit(api, name, "dataset", files, None)


def _parquet(rows: Sequence[Any]) -> bytes:
    """Return samples as a file whose columns have their types, whatever is missing."""
    import pyarrow as pa
    from pyarrow import parquet

    text = pa.string()
    said = pa.struct({"judge": text, "credit": pa.float64(), "grade": pa.float64(), "reason": text})
    types = dict.fromkeys(rows[0], text) | {"preferences": pa.list_(text), "said": pa.list_(said)}
    stream = BytesIO()
    table = pa.Table.from_pylist(list(rows), schema=pa.schema(list(types.items())))
    parquet.write_table(table, stream)
    return stream.getvalue()


def _commit(api: "HfApi", name: str, kind: str, files: list[Any], parent: str | None) -> str:
    made = api.create_commit(
        name,
        files,
        repo_type=kind,
        commit_message="Results by mipo-eval",
        parent_commit=parent,
    )
    return str(made.commit_url)

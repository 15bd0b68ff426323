"""Runs in Weights & Biases, trackio, MLflow and TensorBoard: values, tables, plots, the curve.

A run that is sent again is the same one there, brought up to date; its curve is sent once. What the
clients find out by themselves (machine, command line, console) is not sent: a command may hold a
password. Their own settings count: WANDB_MODE, TRACKIO_SPACE_ID, MLFLOW_TRACKING_URI and so on.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipo_eval.errors import BackendError, ConfigError, first_line
from mipo_eval.keys import masked
from mipo_eval.push.parcel import Parcel
from mipo_eval.tasks.items import replacing

if TYPE_CHECKING:
    from PIL.Image import Image


PROJECT = "mipo-eval"
_TAG = "mipo_eval.run_id"
"""By which a run is found again in MLflow."""
_AT_ONCE = 1_000
_LONGEST = 6_000
"""Metrics in one request to MLflow and characters of a fact: it takes no more."""


@contextmanager
def _speaking_to(client: str, *errors: type[Exception]) -> Iterator[None]:
    """Keep a client off stdout, and say in one line what it complains of.

    Raises:
        BackendError: it does, by one of its own errors or by one of the system's.
    """
    kinds: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except kinds as error:
        reason = masked(first_line(error))[:300]
        raise BackendError(f"{client} did not take the run: {reason}") from error


def _opened(picture: bytes) -> "Image":
    from PIL import Image

    return Image.open(io.BytesIO(picture))


def _media(client: Any, parcel: Parcel) -> dict[str, Any]:
    """Return tables and plots as wandb and trackio, whose names are the same, take them."""
    tables = {
        name: client.Table(columns=[*rows[0]], data=[[*row.values()] for row in rows])
        for name, rows in parcel.tables.items()
    }
    pictures = {f"plots/{n}": client.Image(_opened(p)) for n, p in parcel.pictures.items()}
    return tables | pictures


def to_wandb(parcels: Sequence[Parcel], into: str | None) -> list[str]:
    """Send runs to a project of Weights & Biases, or into its folder where it is offline."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    from wandb.errors import Error

    project = into or os.environ.get("WANDB_PROJECT") or PROJECT
    with _speaking_to("wandb", Error):
        # It would ask for a key on a terminal, where nobody would see the question.
        online = wandb.setup().settings.mode in {"online", "shared"}
        if online and not wandb.login(prompt=False, verify=False):
            raise ConfigError(
                "wandb has no key: log in with `wandb login`, set WANDB_API_KEY, or "
                "WANDB_MODE=offline for a folder to be sent later"
            )
        return [_to_wandb(wandb, parcel, project) for parcel in parcels]


def _to_wandb(wandb: Any, parcel: Parcel, project: str) -> str:
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    with wandb.init(
        project=project,
        name=parcel.name,
        id=parcel.run_id,
        group=parcel.suite,
        job_type="evaluation",
        config=dict(parcel.about),
        resume="allow",
        settings=settings,
    ) as run:
        run.define_metric("training/*", step_metric="training/step")
        for step, values in parcel.curve.items() if not run.resumed else ():
            run.log({"training/step": step} | {f"training/{n}": v for n, v in values.items()})
        report = {"report": wandb.Html(parcel.texts["report.html"], inject=False)}
        run.log({**parcel.values, **_media(wandb, parcel), **report})
        folder = Path(run.dir).parent
        return f"{folder} (offline: `wandb sync {folder}`)" if run.offline else str(run.url)


def to_trackio(parcels: Sequence[Parcel], into: str | None) -> list[str]:
    """Send runs to a project of trackio: here, or where its own settings say."""
    import trackio
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    project = into or os.environ.get("TRACKIO_PROJECT") or PROJECT
    with _speaking_to("trackio", HTTPError, HfHubHTTPError):
        for parcel in parcels:
            _to_trackio(trackio, parcel, project)
    return [f"project {project}, run {parcel.name}" for parcel in parcels]


def _to_trackio(trackio: Any, parcel: Parcel, project: str) -> None:
    try:
        resumed = parcel.name in {run.name for run in trackio.Api().runs(project)}
    except ValueError:  # there is no such project yet
        resumed = False
    trackio.init(
        project,
        parcel.name,
        group=parcel.suite,
        config=dict(parcel.about),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    try:
        for step, values in parcel.curve.items() if not resumed else ():
            trackio.log({f"training/{name}": value for name, value in values.items()}, step=step)
        trackio.log({**parcel.values, **_media(trackio, parcel)})
    finally:
        trackio.finish()


def to_mlflow(parcels: Sequence[Parcel], into: str | None) -> list[str]:
    """Send runs to an experiment of MLflow, at its tracking URI."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow.exceptions import MlflowException

    experiment = into or os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    with _speaking_to("mlflow", MlflowException):
        try:
            client = mlflow.MlflowClient()
            found = client.get_experiment_by_name(experiment)
        except ModuleNotFoundError as error:  # mlflow-skinny has no database of its own
            raise ConfigError(
                f"mlflow has no server to send to and cannot keep runs here without {error.name}: "
                "name one in MLFLOW_TRACKING_URI, or pip install mlflow"
            ) from None
        number = found.experiment_id if found else client.create_experiment(experiment)
        sent = [_to_mlflow(client, parcel, number) for parcel in parcels]
        return [
            f"{masked(client.tracking_uri)}, experiment {experiment}, run {one}" for one in sent
        ]


def _to_mlflow(client: Any, parcel: Parcel, experiment: str) -> str:
    from mlflow.entities import Metric, Param

    at = int(parcel.at.timestamp() * 1000)
    found = client.search_runs([experiment], f"tags.`{_TAG}` = '{parcel.run_id}'")
    metrics = [Metric(name, value, at, 0) for name, value in parcel.values.items()]
    if found:
        run = found[0]
        metrics = [one for one in metrics if run.data.metrics.get(one.key) != one.value]
    else:
        tags = {_TAG: parcel.run_id}
        run = client.create_run(experiment, start_time=at, tags=tags, run_name=parcel.name)
        facts = {name: value for name, value in parcel.about.items() if value is not None}
        given = [Param(name, str(value)[:_LONGEST]) for name, value in facts.items()]
        client.log_batch(run.info.run_id, params=given)
        metrics += [
            Metric(f"training/{name}", value, at, step)
            for step, values in parcel.curve.items()
            for name, value in values.items()
        ]
    number = run.info.run_id
    for first in range(0, len(metrics), _AT_ONCE):
        client.log_batch(number, metrics=metrics[first : first + _AT_ONCE])
    for name, text in parcel.texts.items():
        client.log_text(number, text, name)
    for name, picture in parcel.pictures.items():
        client.log_image(number, _opened(picture), f"plots/{name}.png")
    client.set_terminated(number, end_time=at)
    return str(number)


def to_tensorboard(parcels: Sequence[Parcel], into: str | None) -> list[str]:
    """Write runs as event files into a folder, one subfolder each; earlier ones are replaced."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    written = []
    for parcel in parcels:
        folder = Path(into or PROJECT) / f"{parcel.suite}-{parcel.run_id[:12]}"
        with _speaking_to("tensorboard"):
            folder.mkdir(parents=True, exist_ok=True)
            # The writer of whole folders would put this machine's name into the file's.
            file = folder / f"events.out.tfevents.{parcel.at.timestamp():.0f}.{PROJECT}"
            with replacing(file) as part, part.open("wb") as stream:
                writer = RecordWriter(stream)
                for event in _events(parcel):
                    writer.write(event)
        written.append(str(folder))
    return written


def _events(parcel: Parcel) -> Iterator[bytes]:
    """Yield the events of a run: the curve by step, then values, plots and texts after it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    at = parcel.at.timestamp()
    yield Event(wall_time=at, file_version="brain.Event:2").SerializeToString()
    last = max(parcel.curve, default=0)
    after: list[Any] = [Summary.Value(tag=n, simple_value=v) for n, v in parcel.values.items()]
    for name, picture in parcel.pictures.items():
        width, height = _opened(picture).size
        image = Summary.Image(
            encoded_image_string=picture, width=width, height=height, colorspace=4
        )
        after.append(Summary.Value(tag=f"plots/{name}", image=image))
    after.append(_text("scores", parcel.texts["scores.md"]))
    after.append(_text("about", _lines([parcel.about])))
    after += [_text("samples", _lines(parcel.samples))] * bool(parcel.samples)
    for step, values in parcel.curve.items():
        points = [Summary.Value(tag=f"training/{n}", simple_value=v) for n, v in values.items()]
        yield Event(wall_time=at, step=step, summary=Summary(value=points)).SerializeToString()
    yield Event(wall_time=at, step=last, summary=Summary(value=after)).SerializeToString()


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as Markdown that shows them as they are: a value a line."""
    lines = [
        f"    {name}: {json.dumps(cell, ensure_ascii=False)}"
        for row in rows
        for name, cell in row.items()
    ]
    return "\n".join(lines)


def _text(tag: str, markdown: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])
    return Summary.Value(tag=tag, metadata=create_summary_metadata(None, None), tensor=tensor)

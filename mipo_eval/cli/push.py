"""`mipo-eval push`: runs in trackers and on the hub."""

from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, reading

if TYPE_CHECKING:
    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store

# Written out, not imported: `--help` must not read what sends. A test compares them.
TARGETS = ("hub", "wandb", "trackio", "mlflow", "tensorboard")


@click.command(
    epilog=examples(
        "push RUN RUN --to wandb --into my-project",
        "push RUN --to hub --into me/my-checkpoint --samples",
    )
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--to", "target", type=click.Choice(TARGETS), required=True, help="Where runs are sent."
)
@click.option(
    "--into",
    metavar="NAME",
    help="hub: the checkpoint's repository, OWNER/NAME. wandb, trackio: the project. mlflow: the "
    "experiment. tensorboard: the folder. [default: the client's own setting, or mipo-eval]",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="M",
    help="Send only this metric; repeat the option for several.",
)
@click.option(
    "--samples",
    is_flag=True,
    help="Also send items with their responses and verdicts (for hub: as data set NAME-samples).",
)
@reading
def push(  # noqa: PLR0913 - one parameter per flag
    store: "Store",
    output: "Output",
    *,
    runs: tuple[str, ...],
    target: str,
    into: str | None,
    metrics: tuple[str, ...],
    samples: bool,
) -> None:
    """Send runs to a tracker or to the hub.

    RUN is the beginning of a run's id, as `mipo-eval runs` lists them. Scores are sent with
    intervals, n, signatures and plots, and with the learning curve of a checkpoint trained here; on
    the hub they become the card's evaluation results. A run that is sent again is updated.
    Everything that looks like a key or a password is masked. docs/push.md says what is needed.
    """
    from mipo_eval.cli.render import inert
    from mipo_eval.push.pack import pack
    from mipo_eval.push.send import send
    from mipo_eval.store.runs import find_run

    found = {run.run_id: run for run in (find_run(store, name) for name in runs)}
    parcels = [pack(store, run, metrics=metrics, samples=samples) for run in found.values()]
    sent = send(target, parcels, into)
    without = sum(row["value"] is None for parcel in parcels for row in parcel.scores)
    output.document({"to": target, "runs": [*found], "sent": sent, "without_value": without})
    output.show(*(inert(f"Sent to {where}") for where in sent))
    if without:
        output.note(
            f"{without} scores have no value: the tables say why, and plots leave them out."
        )
    if not any(parcel.pictures for parcel in parcels):
        output.note("No plots were made: they need intervals, and pip install 'mipo-eval[board]'")

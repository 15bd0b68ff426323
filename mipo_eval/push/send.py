"""Where runs can be sent, and the sending."""

from collections.abc import Callable, Mapping, Sequence

from mipo_eval.errors import ConfigError
from mipo_eval.push.hub import to_hub
from mipo_eval.push.parcel import Parcel
from mipo_eval.push.trackers import to_mlflow, to_tensorboard, to_trackio, to_wandb

TARGETS: Mapping[str, Callable[[Sequence[Parcel], str | None], list[str]]] = {
    "hub": to_hub,
    "wandb": to_wandb,
    "trackio": to_trackio,
    "mlflow": to_mlflow,
    "tensorboard": to_tensorboard,
}


def send(target: str, parcels: Sequence[Parcel], into: str | None) -> list[str]:
    """Send runs and return where each of them is now.

    Args:
        target: a name of `TARGETS`.
        parcels: what is sent of each run.
        into: repository, project, experiment or folder; None: the client's own setting, or
            "mipo-eval".

    Raises:
        ConfigError: the client is not installed, or `into` is no name of what it should be.
        BackendError: it cannot be reached or does not take what is sent.
    """
    try:
        return TARGETS[target](parcels, into)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--to {target} needs {error.name}, which is not installed: "
            "pip install 'mipo-eval[push]'"
        ) from None

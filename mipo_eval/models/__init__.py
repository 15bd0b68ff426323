"""Models: who is asked, evaluated or judging, and how requests and replies look."""

from mipo_eval.models.base import Backend, Failure, FailureKind, Message, Reply, Request, Sampling
from mipo_eval.models.prices import Purse
from mipo_eval.models.rate_limit import Limits
from mipo_eval.models.spec import load_backend

__all__ = [
    "Backend",
    "Failure",
    "FailureKind",
    "Limits",
    "Message",
    "Purse",
    "Reply",
    "Request",
    "Sampling",
    "load_backend",
]

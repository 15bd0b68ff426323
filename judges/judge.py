"""A judge: who is asked, by which protocol, with which prompt, under one name and one key."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from mipo_eval.judges.parse import PARSER_VERSION
from mipo_eval.judges.prompt import Prompt
from mipo_eval.keys import digest
from mipo_eval.models import Backend, Sampling
from mipo_eval.signature import short

Protocol = Literal["rubric", "pairwise", "pairwise-tie"]
"""One rating per preference; or the better of two responses, asked in both orders, with or without
"tie" as an answer."""


@dataclass(frozen=True)
class Judge:
    """Who judges, how it is asked, and how its replies are read."""

    name: str
    """What tables and signatures call it: the preset's or the model's name, or "checker"."""
    spec: str
    """What the user wrote, e.g. "openai:qwen2.5-14b@http://localhost:8000"."""
    backend: Backend
    prompt: Prompt
    protocol: Protocol = "rubric"
    sampling: Sampling = field(default_factory=Sampling)
    constrained: bool = True
    """Whether the backend holds it to the answers asked for, where it can. The paper's judges are
    not held: what they say instead of an answer is then seen, and unscored."""

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides a verdict; equal keys judge equally."""
        return digest(
            {
                "backend": dict(self.backend.identity),
                "protocol": self.protocol,
                "prompt": self.prompt.text,
                "sampling": asdict(self.sampling),
                "parser": PARSER_VERSION,
                # Left out where it is as usual, so that keys stay what they were.
                **({} if self.constrained else {"constrained": False}),
            }
        )

    @property
    def stored_spec(self) -> Mapping[str, Any]:
        """What the store keeps of it: how it is asked, and what read its replies."""
        backend = dict(self.backend.identity)
        sampling = asdict(self.sampling)
        about = {"spec": self.spec, "backend": backend, "sampling": sampling}
        return {**about, "constrained": self.constrained, **self.signature_parts()}

    def signature_parts(self) -> Mapping[str, str]:
        """Return what a number judged by this judge says about it, for `signature.join`."""
        return {
            "judge": self.name,
            "judge_key": short(self.key),
            "protocol": self.protocol,
            "prompt": short(self.prompt.hash),
            "parser": PARSER_VERSION,
        }

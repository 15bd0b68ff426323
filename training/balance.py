"""The auxiliary loss of a mixture of experts, by which its router keeps using all of them.

TRL adds it to every loss, times the coefficient of the model's configuration, and so do DPO and
contrastive training here. It is no mean over texts: the share of tokens that each expert gets and
its mean probability, both over all tokens that are read, are multiplied. Packed, a token is read
once for several responses, so it is counted as often as if each stood behind its own prompt.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = ("router_aux_loss_coef", "aux_loss_coef")
"""What architectures call the coefficient."""


@dataclass(frozen=True, slots=True)
class RouterBalance:
    """The auxiliary loss of one model."""

    coefficient: float
    loss: Callable[..., "Tensor"]
    """transformers' own, of the model's architecture."""
    chosen: int
    """Experts that read a token."""

    def __call__(self, routed: Sequence["Tensor"], reads: "Tensor") -> "Tensor":
        """Return the () loss of a batch, without the coefficient.

        Args:
            routed: per layer (rows * tokens, experts), the router's logits.
            reads: (rows, tokens) how often each token counts.
        """
        wide = tuple(layer.float() for layer in routed)
        experts = wide[0].shape[-1]
        return self.loss(
            wide, num_experts=experts, top_k=self.chosen, attention_mask=reads.to(wide[0])
        )


def router_balance(model: Any) -> tuple[RouterBalance | None, str | None]:
    """Return the auxiliary loss that a model's configuration asks for, or why it is left out.

    None and None where it asks for none. The model has its weights, at least on the first process.
    """
    from accelerate.utils import broadcast_object_list

    coefficient = router_coefficient(model)
    if not coefficient:
        return None, None
    loss = getattr(sys.modules[type(model).__module__], "load_balancing_loss_func", None)
    found = (
        RouterBalance(coefficient, loss, getattr(model, "num_experts_per_tok", 0)) if loss else None
    )
    if found and broadcast_object_list([_is_own(model, found)])[0]:
        return found, None
    return None, (
        f"the router's auxiliary loss (coefficient {coefficient:g}) is left out: transformers has "
        f"none for {type(model).__name__}, or one of another kind"
    )


def router_coefficient(model: Any) -> float:
    """Return by what a model's configuration weighs its router's auxiliary loss; 0 without one."""
    config = model.config.get_text_config()
    if not hasattr(config, "output_router_logits"):
        return 0.0
    places = (getattr(holder, name, None) for holder in (config, model) for name in _NAMES)
    return float(next((value for value in places if value is not None), 0.0))


def _is_own(model: Any, found: RouterBalance) -> bool:
    """Whether a model finds the same loss on four tokens; not asked where weights come later."""
    import torch

    if any(parameter.is_meta for parameter in model.parameters()):
        return True  # the first process decides
    ids = torch.arange(4, device=model.device)[None]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(ids, output_router_logits=True, use_cache=False)
            ours = found(outputs.router_logits, torch.ones_like(ids))
            return torch.allclose(ours, outputs.aux_loss.float(), rtol=1e-3)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError):
        return False
    finally:
        model.train(training)


def reads(batch: Mapping[str, Any], times: "Tensor") -> "Tensor":
    """Return the (rows, tokens) number of times that each token of a batch is read, unpacked.

    Args:
        batch: of `GroupReader.collate`.
        times: (groups, responses) how often each response is read; 0 where there is none.
    """
    import torch

    if "layouts" not in batch:  # a row is one response with its prompt
        times = times[batch["present"]][:, None]
    table = torch.cat([torch.zeros_like(times[:, :1]), times.sum(1, keepdim=True), times], dim=1)
    return table.gather(1, batch["segments"] + 1)

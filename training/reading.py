"""How a model reads a prompt and its responses: packed into one row, or each in its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mipo_eval.training.attention import Attention, mask_inputs, use_attention
from mipo_eval.training.packing import Layout, TokenGroup, packed, response_sums, unpacked

_PROBES = (
    TokenGroup(item_id="", prompt=(1, 2, 3, 4), responses=((5, 6, 7), (8, 3), (2,))),
    TokenGroup(item_id="", prompt=(7,), responses=((1, 2), (3, 4, 5))),
)


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes batches of groups, and reads them."""

    attention: Attention | None
    """Form of attention over packed rows; None: every response in a row of its own."""
    filler: int = 0
    """Token id to pad with."""

    def collate(self, groups: Sequence[TokenGroup]) -> dict[str, Any]:
        """Return groups as one batch.

        Returns:
            Besides the tensors of `packed` or `unpacked`: `present`, (groups, responses), True
            where a group has that many responses, and the `layouts` of packed rows.
        """
        counts = torch.tensor([len(group.responses) for group in groups])
        present = torch.arange(int(counts.max())) < counts[:, None]
        if self.attention is None:
            return {**unpacked(groups, filler=self.filler), "present": present}
        layouts = tuple(map(Layout.of, groups))
        return {**packed(groups, filler=self.filler), "layouts": layouts, "present": present}

    def logprobs(self, model: Any, batch: dict[str, Any]) -> Tensor:
        """Return the (groups, responses) log-probabilities of a batch, in nats; 0 where absent.

        Args:
            model: with a likelihood head.
            batch: of `collate`, on the model's device.
        """
        present: Tensor = batch["present"]
        inputs = {"input_ids": batch["input_ids"], "targets": batch["targets"]}
        if self.attention is None:
            sums: Tensor = model(**inputs).sum(dim=1)
            return sums.new_zeros(present.shape).masked_scatter(present, sums)
        segments = batch["segments"]
        inputs |= {"position_ids": batch["position_ids"]}
        inputs |= mask_inputs(self.attention, segments, batch["layouts"])
        return response_sums(model(**inputs), segments, present.shape[1])


def packing_reader(model: Any, attention: Attention, *, filler: int = 0) -> Reader:
    """Return a reader of packed rows, and set the model up for it; `refusal` says whether it can.

    Args:
        model: with a likelihood head.
        attention: the form.
        filler: token id to pad with.
    """
    use_attention(model, attention)
    return Reader(attention, filler)


def refusal(model: Any, attention: Attention, *, longest: int) -> str | None:
    """Return why a model cannot read packed rows, or None where it can; the model stays as it was.

    Tried on short sequences, since models that recur, or shift positions in their own way, take
    the input without complaint. Sliding windows are too long to be noticed so; they are looked up.

    Args:
        model: with a likelihood head.
        attention: the form.
        longest: tokens of the longest prompt with one response.
    """
    window = _narrowest_layer(model.config.get_text_config())
    if window < longest:
        return f"a layer of it sees {window:g} tokens back at most, texts have {longest}"
    if any(parameter.is_meta for parameter in model.parameters()):
        return None  # weights arrive later; the first process has them, and decides
    before = model.config._attn_implementation
    single = _probe(model, Reader(None))  # by the model's own attention
    try:
        # Flex is compiled for the device; what it computes is what the dense mask says.
        tried: Attention = "dense" if attention == "flex" else attention
        use_attention(model, tried)
        together = _probe(model, Reader(tried))
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        return " ".join(str(error).split())[:120]
    finally:
        model.set_attn_implementation(before)
    if torch.allclose(together, single, rtol=0.02, atol=0.02):
        return None
    return "it reads packed responses differently from single ones"


def _narrowest_layer(config: Any) -> float:
    """Return how many tokens back the most short-sighted layer sees; 0 for layers that recur."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:
        return float(window or "inf")
    if kinds - {"full_attention", "sliding_attention"}:
        return 0
    return float(window or "inf") if "sliding_attention" in kinds else float("inf")


@torch.no_grad()
def _probe(model: Any, reader: Reader) -> Tensor:
    """Return the log-probabilities of the probes."""
    training = model.training
    model.eval()
    try:
        return reader.logprobs(model, _to(reader.collate(_PROBES), model.device))
    finally:
        model.train(training)


def _to(batch: dict[str, Any], device: Any) -> dict[str, Any]:
    return {key: value.to(device) if key != "layouts" else value for key, value in batch.items()}

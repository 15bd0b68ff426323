"""Self-BLEU-4 beside sacreBLEU's sentence scores, nltk's and fast-bleu, and how it grows.

Seconds are of the processor, so that a busy machine changes the ratios little. The loops of
sacreBLEU and nltk take minutes and more, so that a part of their sentences is timed and scaled:
each costs the same, since each reads all the other texts.
"""

import gc
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from sacrebleu.metrics.bleu import BLEU

from benchmarks.peers import Peer, make_texts
from benchmarks.results import Result, compared, exponent
from mipo_eval.metrics import self_bleu

_LONG = 100.0
"""Seconds after which a peer is asked for no larger size."""


def measure(quick: bool) -> Iterator[Result]:
    """Time ours and fast-bleu at growing sizes, the loops at one."""
    sizes = (100, 200) if quick else (400, 1000, 2500, 10_000)
    self_bleu(make_texts(2))  # imports and first calls are not what is measured
    ours = {n: _ours(n) for n in sizes}
    looped, nltk_part = sizes[1], 2 if quick else 5
    with Peer() as peer:
        last: float | None = 0.0
        for n in sizes:
            size = f"{n:,} texts"
            name = "Self-BLEU-4 beside fast-bleu"
            if last is None or last > _LONG:
                yield Result(name=name, size=size, ours=ours[n], note="it would take too long")
                continue
            found = compared(
                partial(_of_processor, peer, "fast_bleu", n, 7),
                name=name, size=size, ours=ours[n], wanted=">= 1",
            )  # fmt: skip
            last = found.other
            yield found
        beside = partial(compared, size=f"{looped:,} texts", ours=ours[looped], wanted=">= 1000")
        of_sacrebleu = partial(_sacrebleu, looped, 2 if quick else 20)
        yield beside(of_sacrebleu, name="Self-BLEU-4 beside sacreBLEU's loop")
        of_nltk = partial(_of_processor, peer, "nltk", looped, 7, nltk_part)
        yield beside(of_nltk, name="Self-BLEU-4 beside nltk's loop")
    yield Result(
        name="Self-BLEU-4: the exponent its cost grows with", unit="", wanted="<= 1.05",
        size=f"{sizes[0]:,} to {sizes[-1]:,} texts", ours=exponent(sizes, [*ours.values()]),
    )  # fmt: skip


def _of_processor(peer: Peer, *asked: Any) -> float:
    return peer.spent(*asked).processor


def _ours(n: int) -> float:
    """Return the median time of three sets of texts.

    New ones each time, because sacreBLEU's tokenizer remembers texts it has seen.
    """
    times = []
    for seed in range(3):
        texts = make_texts(n, 100 + seed)
        gc.collect()
        start = time.process_time()
        self_bleu(texts)
        times.append(time.process_time() - start)
    return statistics.median(times)


def _sacrebleu(n: int, part: int) -> float:
    """Time sacreBLEU's loop on a part of the texts; its values must be ours."""
    texts = make_texts(n)
    bleu = BLEU(effective_order=True)
    bleu.sentence_score(texts[0], texts[1:])  # its token cache is warm, in its favour
    start = time.process_time()
    looped = [
        bleu.sentence_score(texts[i], texts[:i] + texts[i + 1 :]).score / 100 for i in range(part)
    ]
    seconds = (time.process_time() - start) * n / part
    ours = self_bleu(texts).per_text[:part]
    if worst := [(a, b) for a, b in zip(ours, looped, strict=True) if abs((a or 0) - b) > 1e-9]:
        raise ValueError(f"other values than sacreBLEU's: {worst[0]}")
    return seconds

"""Self-BLEU: how much faster than the leave-one-out sacreBLEU loop, and how it grows.

    python benchmarks/bench_self_bleu.py

Prints two ratios measured in this run. The loop over 1,000 texts takes minutes, so `--loop` of its
1,000 sentence scores (default 20) are timed and scaled: each costs the same, since each reads all
the other texts. `--loop 1000` runs it whole. Values are compared on the way.
"""

import argparse
import gc
import random
import sys
import time

from sacrebleu.metrics import BLEU

from mipo_eval.metrics import self_bleu


def make_texts(n: int, seed: int = 0, words: int = 100) -> list[str]:
    """Return `n` texts of `words` words, drawn with a Zipf-like frequency as in natural text."""
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(5000)]
    weights = [1 / (rank + 1) for rank in range(len(vocabulary))]
    return [" ".join(draw.choices(vocabulary, weights, k=words)) for _ in range(n)]


def fastest(n: int, seeds: range) -> float:
    """Return the shortest wall time, in seconds, of Self-BLEU over `n` texts, one set per seed.

    A new set each time, because sacreBLEU's tokenizer remembers texts it has seen.
    """
    times = []
    for seed in seeds:
        texts = make_texts(n, seed)
        gc.collect()
        start = time.perf_counter()
        self_bleu(texts)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Measure, print, and fail when a promised ratio does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", type=int, default=20, help="sentence scores timed of the loop")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    self_bleu(make_texts(2, seed=9))  # imports and first calls are not what is measured
    small = fastest(1000, range(100, 100 + options.repeats))
    large = fastest(10_000, range(200, 200 + options.repeats))

    texts = make_texts(1000)
    bleu = BLEU(effective_order=True)
    bleu.sentence_score(texts[0], texts[1:])  # its token cache is warm, in its favour
    start = time.perf_counter()
    looped = [
        bleu.sentence_score(texts[i], texts[:i] + texts[i + 1 :]).score / 100
        for i in range(options.loop)
    ]
    loop = (time.perf_counter() - start) * len(texts) / options.loop
    ours = self_bleu(texts).per_text[: options.loop]
    worst = max(abs(a - b) for a, b in zip(ours, looped, strict=True) if a is not None)

    print(f"1,000 texts x 100 words: {small:.3f} s; sacreBLEU loop {loop:.0f} s")
    print(f"  faster than the loop:    {loop / small:8.0f} x   (promised: at least 500)")
    print(f"10,000 texts: {large:.3f} s")
    print(f"  of the time of 1,000:    {large / small:8.1f} x   (promised: at most 12)")
    print(f"largest difference of a value: {worst:.1e}")
    return 0 if loop / small >= 500 and large / small <= 12 and worst < 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main())

"""Content keys, per-item randomness, storable texts: the same thing is the same everywhere."""

import hashlib
import json
import random
import re
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8 kept, no NaN.

    Raises:
        ValueError: `value` holds NaN or an infinity, which have no JSON form.
        TypeError: `value` holds something JSON has no form for.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Return the content key of `value`: 128 bits of SHA-256 over its canonical JSON, in hex.

    128 bits keep indices over millions of verdicts small and are far beyond chance collision.
    `surrogatepass`: model output may hold lone surrogates, and a key must exist for it too.
    """
    content = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:32]


def item_rng(seed: int, *key: str) -> random.Random:
    """Return a generator for one item: same item, same draw, in any order, shard or process.

    `hash(str)` differs between processes, so the key is digested instead.
    """
    return random.Random(digest([seed, *key]))


def clean_text(text: str) -> str:
    """Replace what no database stores (NUL, lone surrogates) by U+FFFD; all else is kept."""
    return _UNSTORABLE.sub("\ufffd", text)

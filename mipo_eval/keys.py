"""Content keys, per-item randomness, storable texts: the same thing is the same everywhere.

What is stored is published sooner or later, and may hold a password: `masked` takes it out.
"""

import hashlib
import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CANONICAL = json.JSONEncoder(  # made once: `json.dumps` makes one for every value
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8 kept, no NaN.

    Raises:
        ValueError: `value` holds NaN or an infinity, which have no JSON form.
        TypeError: `value` holds something JSON has no form for.
    """
    return _CANONICAL.encode(value)


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


MASK = "<key>"
"""What stands in the place of a secret."""
_SHORTEST_SECRET = 8
"""What is shorter may be a word of a message, and is no key of any provider."""
_NAME = (
    r"(?:(?:api|access|secret|private|account|auth|service|master)[_-]?key|passw(?:or)?d|passphrase"
    r"|pwd|credentials?|authorization|secret"
    r"|(?<!pad.)(?<!eos.)(?<!bos.)(?<!unk.)(?<!sep.)(?<!cls.)(?<!mask.)(?<!end.)(?<!stop.)token)"
    r"(?![A-Za-z])"
)
"""How the name of an argument ends that is a secret; "max_tokens" and "pad_token" are none."""
_VALUE = (
    r"([\"'])?(?!(?:true|false|none|null)\b)"
    r"(?(2)[^\"']{1,500}|(?:(?:bearer|basic)\s{1,3})?[^\s,;&\"'}\])]{1,500})"
)
"""Behind a name, whose group is the first."""
_QUOTE = r"[\"'](?=[\w%.~!$&*+=@-])"
"""One inside a password; behind one that ends a text stands something else."""
_NAMED = re.compile(_NAME + r"\Z", re.IGNORECASE)
_SECRETS = (
    # scheme://user:password@host; of http the user, too, for there it is often the key.
    (
        re.compile(rf"(\bhttps?://)(?:[^\s/@'\"]|{_QUOTE}){{1,2000}}@", re.IGNORECASE),
        rf"\1{MASK}@",
    ),
    (
        re.compile(
            r"(\b(?!https?:)[a-z][\w+.-]{0,30}://[^\s:/@]{0,100}:)"
            rf"(?:(?!://)[^\s'\"]|{_QUOTE}){{1,2000}}@",
            re.IGNORECASE,
        ),
        rf"\1{MASK}@",
    ),
    # What signs the request in a URL.
    (
        re.compile(r"([?&](?:key|sig|[\w-]{0,30}signature)=)[^\s&'\"]{1,2000}", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (re.compile(rf"({_NAME}[\"']?\s{{0,3}}[=:]\s{{0,3}}){_VALUE}", re.IGNORECASE), rf"\1\2{MASK}"),
    (
        re.compile(rf"((?<![\w-])--[\w.-]{{0,40}}{_NAME}\s{{1,3}}){_VALUE}", re.IGNORECASE),
        rf"\1\2{MASK}",
    ),
    # Keys that are known by their form.
    (
        re.compile(
            r"\b(?:sk-[\w-]{20,200}|(?:hf|gsk|r8)_[A-Za-z0-9]{20,100}|AIza[\w-]{30,100}"
            r"|(?:xai|pplx|nvapi)-[\w-]{20,200}|glpat-[\w-]{20,200}|ya29\.[\w-]{20,500}"
            r"|(?:gh[pousr]|github_pat)_\w{30,200}"
            r"|xox[abp]-[\w-]{10,200}|AKIA[A-Z0-9]{16}|eyJ[\w-]{10,500}\.[\w-]{10,999}\.[\w-]{10,500})"
        ),
        MASK,
    ),
)


def masked(text: str) -> str:
    """Return a text without the secrets in it: of the environment, of URLs, and named as such.

    Example:
        >>> masked("judge --store postgresql://ann:pw@db/x --model lm-eval:hf:pretrained=m,token=t")
        'judge --store postgresql://ann:<key>@db/x --model lm-eval:hf:pretrained=m,token=<key>'
    """
    for secret in secrets():
        text = text.replace(secret, MASK)
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    return text


def masked_values(value: Any) -> Any:
    """Return plain data with its texts masked, wholly where their name says they are secret."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list | tuple):
        return [masked_values(one) for one in value]
    if isinstance(value, Mapping):
        return {
            masked_values(name): MASK
            if isinstance(own, str) and own and is_secret(name)
            else masked_values(own)
            for name, own in value.items()
        }
    return value


def is_secret(name: object) -> bool:
    """Whether the name of an argument says that its value is a secret."""
    return isinstance(name, str) and _NAMED.search(name) is not None


def is_key_name(name: str) -> bool:
    """Whether a variable's name says that it holds a secret, which no message may repeat."""
    return any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))


def secrets() -> Iterator[str]:
    """Yield every secret of the environment, the longest first: one may be part of another."""
    held = {value.strip() for name, value in os.environ.items() if is_key_name(name)}
    yield from sorted((one for one in held if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)

"""One seed decides everything in-process: a random choice is keyed by what it is about, never by when it is made."""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part, its type and its place: ``derive_seed(seed, step, scenario, turn, i)``.

    The same on every machine, process and Python version (unlike ``hash``); fits torch, numpy and SQLite integers.
    """
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

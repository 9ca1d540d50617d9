"""Which part of a reply's text each of its tokens stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character, or none yet


def pieces(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    """The text that each of T tokens adds to what was decoded before; joined they are ``decode(ids)``.

    A character spread over tokens belongs to the last of them, and what is not decoded (special tokens) adds "".
    Only a few tokens are decoded at a time, so this is linear in T, but for long runs that make no character.
    Where a decoder takes back a character because of the bytes that follow it, the first piece is the whole text.
    """
    found = [""] * len(ids)
    # Words are decoded behind those before them: many decoders drop the space of a text's first word.
    start, known, before = 0, 0, ""
    for t in range(len(ids)):
        text = decode(ids[start : t + 1])
        finished = not text.endswith(UNFINISHED) or t == len(ids) - 1
        if finished and len(text) > len(before):
            found[t] = text[len(before) :]
            start, known, before = known, t + 1, decode(ids[known : t + 1])
    whole = decode(ids)
    return found if "".join(found) == whole else [whole, *[""] * (len(ids) - 1)]

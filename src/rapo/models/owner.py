"""Who holds a claim: a process, told apart from a later one that got its number."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """The name of this process in a journal: host, pid, and when it started."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def alive(owner: str) -> bool:
    """Whether the process of that name still runs; one of another host is taken to."""
    host, pid, started = owner.rsplit(" ", 2)
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, where the system tells (Linux); "gone" for one that has ended and was not waited for."""
    try:
        # The command's name comes second, in brackets, and may hold anything, brackets and spaces included.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "?"
    return "gone" if fields[0] in "ZX" else fields[19]

"""What ``rapo chat`` does: a policy, perhaps simulated users, and a place to talk."""

from __future__ import annotations

import time
from functools import cache, partial
from pathlib import Path

from rapo.chat.page import Page
from rapo.chat.talk import Talk
from rapo.chat.terminal import Console
from rapo.config import RunConfig
from rapo.evaluate import Speakers
from rapo.parts import Parts
from rapo.progress import Terminal
from rapo.stages import prepare


def run_chat(config: RunConfig, model: str, terminal: Terminal, out: Path, *, watch: bool, port: int | None) -> None:
    """Talk until the person leaves.

    Args:
        config: whose settings, and whose users can be watched.
        model: folder, hub id, run folder, or name of one of the config's models.
        terminal: where it is shown.
        out: folder that receives the talks.
        watch: begin with a simulated user.
        port: of the page; None talks in the terminal.

    Raises:
        ConfigError: there are no users to watch.
        ModelError: the model cannot be loaded.
    """
    prepare(config)
    with Parts(config, config.run.dir, terminal.warn) as parts:
        speaker = Speakers(parts, [model]).get(model)
        # Whoever talks for themselves needs no users, nor the files and endpoints that these need.
        users = cache(partial(parts.users, evaluation=True))
        if watch:
            users()
        # Another talk each time: the sampling is keyed by this.
        talk = Talk(speaker, out, model, seed=time.time_ns() % 2**62, users=users)
        if port is None:
            Console(talk, terminal).run(watch=watch)
            return
        page = Page(talk, port)
        if watch:
            page.act("watch", {})
        terminal.report(f"talk at {page.url} (Ctrl-C ends it)")
        try:
            page.serve()
        except KeyboardInterrupt:
            terminal.report(f"the talks are in {out}")

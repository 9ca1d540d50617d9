"""The users, judges and language models that a config names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from rapo import plugins
from rapo.config import WORLDS, Population, RunConfig
from rapo.errors import DataError, EndpointError, RunError
from rapo.hindsight.feedback import RewardModel
from rapo.interact.users import UserSimulator
from rapo.models.chat import ChatModel
from rapo.safety import risky
from rapo.types import Message

if TYPE_CHECKING:
    from rapo.hindsight.llm_judge import LLMJudge
    from rapo.interact.llm_user import LLMUser
    from rapo.models.journal import Journal, Role, Totals
    from rapo.models.server import Server
    from rapo.models.structured import Tally

T = TypeVar("T")


class Parts:
    """Makes each part on demand; a language model is connected once per role, all through one journal.

    Use it in a ``with`` statement: leaving it closes the journal and the connections.

    Args:
        config: the run's config.
        folder: receives the journal, unless ``calls.journal`` names another place.
        notice: hears what a person should know and no error tells, such as a server without JSON schemas.
    """

    def __init__(self, config: RunConfig, folder: Path, notice: Callable[[str], None]) -> None:
        self.config, self.notice = config, notice
        self._path = config.calls.journal or folder / "journal.sqlite"
        self._opened = ExitStack()
        self._journal: Journal | None = None
        self._told: set[str] = set()
        self._models: dict[tuple[str, Role], ChatModel] = {}
        self._servers: dict[str, Server] = {}
        self._tallied: list[tuple[str, LLMUser | LLMJudge]] = []

    def users(self, population: Population | None = None, *, evaluation: bool = False) -> UserSimulator:
        """The user simulator.

        Args:
            population: embedded worlds only: whose users; None takes ``users.population``.
            evaluation: users and scenarios that training never meets.
        """
        users = self.config.users
        if users.kind in WORLDS:
            from rapo.worlds import load_world

            return load_world(users.kind).users(population or users.population, evaluation=evaluation)
        if users.kind == "replay":
            from rapo.data import load_conversations
            from rapo.interact.replay import ReplayUser

            talks = load_conversations(users.files, plugins.reader(users.importer, "users.importer")).conversations
            return ReplayUser(
                talks if evaluation else self._safe(talks, lambda talk: talk.messages, "dialogues"),
                neighbours=users.neighbours,
                max_opening=users.max_opening,
                evaluation=evaluation,
            )
        if users.kind == "llm":
            return self._llm_users(evaluation)
        return plugins.users(users.kind, users.options)

    def _llm_users(self, evaluation: bool) -> UserSimulator:
        from rapo.data import load_scenarios, set_aside
        from rapo.interact.llm_user import LLMUser

        users, c = self.config.users, self.config.eval
        read = plugins.reader(users.importer, "users.importer")
        found = load_scenarios(users.files, users.domain, read).scenarios
        if len(scales := {scenario.scale for scenario in found}) > 1:
            raise DataError(
                "the scenarios lie on several scales, and their changes cannot be compared",
                got=", ".join(sorted(f"{scale.name} {scale.low:g}-{scale.high:g}" for scale in scales)),
                expected="one scale in users.files",
            )
        chosen = [scenario for scenario in found if set_aside(scenario) == evaluation]
        if not evaluation:
            chosen = self._safe(chosen, lambda scenario: scenario.opening, "scenarios")
        if not chosen:
            raise DataError(
                f"{len(found)} scenarios are too few: none is left for {'evaluation' if evaluation else 'training'}",
                expected="a dozen or more in users.files that differ in facts, situation or first message",
            )
        names = (c.models or users.models) if evaluation else users.models
        models = [self.model(name, "evaluation" if evaluation else "user") for name in names]
        made = LLMUser(chosen, models, domain=users.domain, mode=users.mode, personas=users.personas)
        self._tallied.append(("evaluation users" if evaluation else "users", made))
        return made

    def _safe(self, found: Sequence[T], messages: Callable[[T], Sequence[Message]], what: str) -> list[T]:
        """Those without signs of risk in what a user says; how many are left out is told once."""
        if self.config.train.on_risk:
            return list(found)
        kept = [each for each in found if not risky(messages(each), self.config.suites.locale)]
        skipped = len(found) - len(kept)
        if skipped and what not in self._told:
            self._told.add(what)
            self.notice(
                f"{skipped} of {len(found)} {what} show signs of risk and are kept out of training "
                "(train.on_risk, docs/safety.md)"
            )
        return kept

    def judge(self) -> RewardModel:
        """The generative reward model."""
        judge = self.config.judge
        if judge.kind in WORLDS:
            from rapo.worlds import load_world

            return load_world(judge.kind).judge()
        if judge.kind == "contrast":
            from rapo.hindsight.contrast import ContrastJudge

            return ContrastJudge(tolerance=judge.tie)
        if judge.kind == "llm":
            from rapo.hindsight.llm_judge import LLMJudge

            made = LLMJudge(self.model(str(judge.model), "judge"), domain=self.config.users.domain)
            self._tallied.append(("judge", made))
            return made
        return plugins.judge(judge.kind, judge.options)

    def model(self, name: str, role: Role) -> ChatModel:
        """The language model ``name`` of the config in a role; its calls are journaled and counted."""
        if (name, role) not in self._models:
            from rapo.models.connect import connect

            self._models[name, role] = connect(
                self.config.models[name],
                self.journal,
                role,
                self.config.calls,
                label=name,
                notice=self.notice,
                run=self.config.run,
                servers=self._servers,
            )
        return self._models[name, role]

    @property
    def journal(self) -> Journal:
        """The journal of all calls, opened on first use."""
        if self._journal is None:
            from rapo.models.journal import Journal

            self._journal = Journal(self._path)
            self._opened.callback(self._journal.close)
            self._opened.callback(self._hang_up)
        return self._journal

    def _hang_up(self) -> None:
        """End what is still asked: an interrupted run waits for no answer."""
        for server in self._servers.values():
            server.close()

    def totals(self) -> dict[str, Totals]:
        """What each role has used of language models; empty without any."""
        return {} if self._journal is None else self._journal.totals()

    def spent(self) -> dict[str, float]:
        """The share of each budget of ``calls`` that is spent; empty without budgets or calls."""
        if self._journal is None:
            return {}
        from rapo.models.ledger import spent

        return spent(self._journal, self.config.calls)

    def tallies(self) -> dict[str, Tally]:
        """How the answers of language models to this process could be read, by part."""
        found: dict[str, Tally] = {}
        for name, part in self._tallied:
            found[name] = part.tally + found[name] if name in found else part.tally
        return found

    def forget_unusable(self) -> None:
        """Let answers that this command found missing or unusable be asked for again when it goes on."""
        if self._journal is not None:
            self._journal.void_unusable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._opened:
            try:
                if isinstance(error, EndpointError):
                    # What could not be had is asked for again when the command is given again.
                    self.forget_unusable()
            except RunError as also:
                # The error under way is the one to hear of first.
                self.notice(str(also))

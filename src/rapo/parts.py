"""The user simulator and the judge a config asks for."""

from __future__ import annotations

from rapo.config import Population, RunConfig
from rapo.hindsight.feedback import RewardModel
from rapo.interact.users import UserSimulator


def make_users(config: RunConfig, population: Population | None = None, *, evaluation: bool = False) -> UserSimulator:
    """The user simulator of a run.

    Args:
        config: the run's config.
        population: scripted users only: whose seekers; None takes ``users.population``.
        evaluation: users and scenarios that training never meets.
    """
    users = config.users
    if users.kind == "support":
        from rapo.worlds.support.seeker import SupportWorld

        return SupportWorld(population or users.population, evaluation=evaluation)
    from rapo.interact.replay import ReplayUser

    return ReplayUser.from_files(
        users.files, neighbours=users.neighbours, max_opening=users.max_opening, evaluation=evaluation
    )


def make_judge(config: RunConfig) -> RewardModel:
    """The judge of a run."""
    if config.judge.kind == "support":
        from rapo.worlds.support.judge import SupportJudge

        return SupportJudge()
    from rapo.hindsight.contrast import ContrastJudge

    return ContrastJudge(tolerance=config.judge.tie)

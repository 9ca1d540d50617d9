"""What is logged of a step; ``docs/algorithm.md`` says what each number means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rapo.evals.variety import degenerate, distinct_n, most_common_share
from rapo.types import Candidate, Completion, Correction, Dialogue, Group


def step_metrics(dialogues: Sequence[Dialogue], groups: Sequence[Group]) -> dict[str, float]:
    """What can be read off the dialogues played and the groups judged; NaN where there was nothing to read."""
    candidates = [candidate for group in groups for candidate in group.candidates]
    judged = [group for group in groups if group.feedback is not None]
    corrections = [correction for group in groups for correction in group.corrections]
    replies = [candidate.completion.text for candidate in candidates]
    written = [each.completion for each in candidates] + [each.completion for each in corrections]
    turns = sum(len(dialogue.turns) for dialogue in dialogues)
    return {
        "state_change": _mean(d.trajectory[-1] - d.trajectory[0] for d in dialogues if d.turns),
        "candidate_change": _mean(_change(group, candidate) for group in groups for candidate in group.candidates),
        "pivotal_share": len(groups) / turns if turns else math.nan,
        "missing_feedback": 1 - len(judged) / len(groups) if groups else math.nan,
        "tied_groups": _mean(float(len({f.rank for f in group.feedback or ()}) == 1) for group in judged),
        "judge_agreement": _mean(group.agreement for group in judged if group.agreement is not None),
        "corrections": float(len(corrections)),
        "teacher_lift": teacher_lift(groups),
        "lift_by_chance": _lift_by_chance(groups),
        "sampled_tokens": float(sum(len(completion.token_ids) for completion in written)),
        "reply_tokens": _mean(len(candidate.completion.token_ids) for candidate in candidates),
        "distinct_2": distinct_n(replies, 2),
        "most_common_share": most_common_share(replies),
        "degenerate_share": _mean(float(_degenerate(completion)) for completion in written),
    }


def teacher_lift(groups: Iterable[Group]) -> float:
    """The share of verified corrections whose echo leaves the user better off than the failed reply's; NaN for none."""
    return _mean(float(improves(group, c)) for group in groups for c in group.corrections if c.reaction is not None)


def _lift_by_chance(groups: Iterable[Group]) -> float:
    """How often another candidate of the group beats the reply that was corrected: what resampling alone would do."""
    return _mean(
        float(other.reaction.state > group.candidates[correction.candidate].reaction.state)
        for group in groups
        for correction in group.corrections
        for i, other in enumerate(group.candidates)
        if i != correction.candidate and correction.reaction is not None
    )


def improves(group: Group, correction: Correction) -> bool:
    """Whether a verified correction's echo beats the original's."""
    original = group.candidates[correction.candidate].reaction.state
    return correction.reaction is not None and correction.reaction.state > original


def _change(group: Group, candidate: Candidate) -> float:
    return candidate.reaction.state - group.pivot.dialogue.trajectory[-1]


def _degenerate(completion: Completion) -> bool:
    return not completion.finished or degenerate(completion.text)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan

"""What is logged of a step; ``docs/algorithm.md`` says what each number means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rapo.evals.variety import degenerate, distinct_n, most_common_share
from rapo.optimize.advantage import group_advantage, rank_rewards
from rapo.ranks import mid_ranks
from rapo.types import Candidate, Completion, Correction, Dialogue, Group

ENOUGH = 64  # degrees of freedom: fewer ranks in a step say nothing of a judge's habits


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
        "length_correlation": length_correlation(judged),
        "slot_bias": slot_bias(judged),
        "corrections": float(len(corrections)),
        "teacher_lift": teacher_lift(groups),
        "lift_by_chance": _lift_by_chance(groups),
        "sampled_tokens": float(sum(len(completion.token_ids) for completion in written)),
        "reply_tokens": _mean(len(candidate.completion.token_ids) for candidate in candidates),
        "distinct_2": distinct_n(replies, 2),
        "most_common_share": most_common_share(replies),
        "degenerate_share": _mean(float(_degenerate(completion)) for completion in written),
    }


def length_correlation(groups: Sequence[Group]) -> float:
    """Rank correlation of a reply's tokens with its rank reward within groups, pooled: 1 where the longest always wins.

    Lengths are ranked within each group, so that a group of long replies counts no more than one of short replies.
    Groups that tie in either say nothing. NaN where fewer than ``ENOUGH`` ranks are left (G - 1 of each group).
    """
    pairs = [(_ranked_lengths(group), _rewards(group)) for group in groups]
    pairs = [(lengths, rewards) for lengths, rewards in pairs if len(set(lengths)) > 1 and len(set(rewards)) > 1]
    if sum(len(rewards) - 1 for _, rewards in pairs) < ENOUGH:
        return math.nan
    shared = math.fsum(a * b for lengths, rewards in pairs for a, b in zip(lengths, rewards, strict=True))
    spreads = [math.fsum(a * a for each in pairs for a in each[side]) for side in (0, 1)]
    return shared / math.sqrt(spreads[0] * spreads[1])


def slot_bias(groups: Sequence[Group]) -> float:
    """Share of the advantages' spread that the place at which the judge read a reply explains, less what chance does.

    About 0 for a judge that does not mind the place, at any number of groups (below 0 is chance, too); 1 for one that
    ranks by nothing else, 0.33 for one that always likes the first of 8 best. It is epsilon squared (Kelley 1935) of
    an analysis of variance with groups as blocks: the largest mean of a place would grow by chance as groups get fewer.
    Tied groups say nothing. NaN where fewer than ``ENOUGH`` ranks are left (G - 1 of each order, less one per place).
    """
    slots: dict[int, list[float]] = {}
    shown = 0
    for group in groups:
        advantages = group_advantage(rank_rewards([each.rank for each in group.feedback or ()]))
        for order in group.orders if any(advantages) else ():
            shown += 1
            for slot, place in enumerate(order):
                slots.setdefault(slot, []).append(advantages[place])
    free = sum(map(len, slots.values())) - shown - (len(slots) - 1)
    if free < ENOUGH:
        return math.nan
    total = math.fsum(each * each for some in slots.values() for each in some)
    between = math.fsum(math.fsum(some) ** 2 / len(some) for some in slots.values())
    return (between - (len(slots) - 1) * (total - between) / free) / total


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


def _ranked_lengths(group: Group) -> list[float]:
    """Ranks of the replies' lengths, the longest highest, about their mean."""
    ranks = mid_ranks([len(candidate.completion.token_ids) for candidate in group.candidates])
    return [rank - (len(ranks) + 1) / 2 for rank in ranks]


def _rewards(group: Group) -> list[float]:
    """Rank rewards about their mean."""
    return [reward - 0.5 for reward in rank_rewards([each.rank for each in group.feedback or ()])]


def _degenerate(completion: Completion) -> bool:
    return not completion.finished or degenerate(completion.text)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan

"""A world of your own is a user and a judge: users.kind=own_world:Countdown judge.kind=own_world:Countdown.

There is no text to make a model of, so policy.path names one that talks (or sft.files hold dialogues), and there are no
correction examples to replay: teacher.replay=0.
"""

from rapo.hindsight.feedback import Verdict
from rapo.types import Message, Reaction, Scenario


class Countdown:
    def scenarios(self, count, seed):
        said = [(f"{seed}-{n}", (Message("user", f"What comes before {n % 9 + 1}?"),)) for n in range(count)]
        return [
            Scenario(name, "counting down", words, 0.0, profile={"wants": words[0].content}) for name, words in said
        ]

    def react(self, requests):
        right = [str(int(r.dialogue.scenario.profile["wants"][-2]) - 1) in r.reply for r in requests]
        return [Reaction("Right!" if yes else "No.", 10.0 if yes else 0.0, done=yes) for yes in right]

    def judge(self, requests):
        return [
            Verdict(tuple(1 + (10 - e.state) / 10 for e in r.reactions), ("Count.",) * len(r.replies)) for r in requests
        ]

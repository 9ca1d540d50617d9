"""A user of your own: users.kind=own_user:Curious judge.kind=contrast (optional users.options={like: "?"}).

A judge of your own or judge.kind=llm does too. There is no text to make a model of, so policy.path names one that talks
(or sft.files hold dialogues), and there are no correction examples to replay: teacher.replay=0.
"""

from rapo.types import Message, Reaction, Scenario


class Curious:
    def __init__(self, like="?"):
        self.like = like

    def scenarios(self, count, seed):
        hello = (Message("user", "I had a bad day."),)
        return [Scenario(f"day-{seed}-{i}", "a bad day", hello, start=5.0) for i in range(count)]

    def react(self, requests):
        return [self._echo(r.reply, r.dialogue.trajectory[-1]) for r in requests]

    def _echo(self, reply, state):
        liked = self.like in reply
        return Reaction("Good that you ask." if liked else "Hm.", min(max(state + 2 * liked - 1, 0.0), 10.0))

"""A judge of your own: judge.kind=own_judge:Brief (optional judge.options={words: 12})."""

from rapo.hindsight.feedback import Verdict


class Brief:
    def __init__(self, words=12):
        self.words = words

    def judge(self, requests):
        return [self._verdict(request.replies) for request in requests]

    def _verdict(self, replies):
        over = [max(0, len(reply.split()) - self.words) for reply in replies]
        return Verdict(
            ranks=tuple(1.0 + sum(other < mine for other in over) for mine in over),
            critiques=tuple("Good." if not n else f"Say it in {n} words less." for n in over),
        )

"""How close replies are to those of a reference, by the field's own packages (the extra ``suites``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rapo.errors import LackingError

ORDERS = (1, 2, 3, 4)

Similarity = Callable[[Sequence[str], Sequence[str]], list[float]]  # replies and references to one number each


def bleu(replies: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """``bleu_1`` to ``bleu_4`` of the corpus, 0-100: sacrebleu, lower case, tokenised as in WMT (13a).

    BLEU-n weighs orders 1 to n alike and is smoothed exponentially, as the ESConv papers do with nltk's method 3.
    """
    metrics = _package("sacrebleu.metrics")
    return {
        f"bleu_{n}": float(
            metrics.BLEU(lowercase=True, max_ngram_order=n).corpus_score(list(replies), [list(references)]).score
        )
        for n in ORDERS
    }


def rouge_l(replies: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L of each pair, 0-1: the F-measure of rouge-score, without stemming."""
    scorer = _package("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    return [
        float(scorer.score(reference, reply)["rougeL"].fmeasure)
        for reply, reference in zip(replies, references, strict=True)
    ]


def bert_score(model: str, *, layers: int | None = None, device: str = "cpu") -> Similarity:
    """BERTScore F1 (Zhang et al. 2020, arXiv 1904.09675) with an encoder, not rescaled; the extra ``bertscore``.

    Args:
        model: hub id or folder; bert-score knows the best layer of many hub ids.
        layers: how many layers to use; needed for a folder.
        device: where it computes.

    Raises:
        ConfigError: bert-score is not installed.
    """
    # Made here, so that a package or a model that is not there is found before the first reply is asked for.
    scorer = _package("bert_score", "bertscore").BERTScorer(model_type=model, num_layers=layers, device=device)

    def similarity(replies: Sequence[str], references: Sequence[str]) -> list[float]:
        # Of an empty reply bert-score says 0, by a way that transformers 5 has closed.
        scores = [0.0] * len(replies)
        worded = [i for i in range(len(replies)) if replies[i].strip()]
        if worded:
            found = scorer.score([replies[i] for i in worded], [references[i] for i in worded])[2].tolist()
            for i, score in zip(worded, found, strict=True):
                scores[i] = score
        return scores

    return similarity


def require() -> None:
    """Raise LackingError where a package that BLEU or ROUGE needs is missing."""
    _package("sacrebleu.metrics")
    _package("rouge_score.rouge_scorer")


def _package(name: str, extra: str = "suites") -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        raise LackingError(
            f"comparing replies with references needs {package}",
            expected=f"the extra {extra}",
            fix=f"pip install 'rapo-rl[{extra}]'",
        ) from error

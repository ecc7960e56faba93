"""Smoothed BLEU of one text against one reference, as CodeXGLUE's code-to-text task defines it.

Its evaluator (after Moses' bleu.py and NIST's mteval-v11a) differs from other BLEUs, so no library gives its numbers:
sacrebleu's `add-k` and `exp` smoothing, for instance, have another brevity penalty and another tokenizer. Here:
- both texts are lower-cased and split into words and single punctuation marks, then tokenized by mteval-v11a's rules;
- the precision of 1-grams is as counted, those of 2- to 4-grams have 1 added above and below;
- the brevity penalty compares the lengths with 1 added to each, so it is below 1 for an equal length + 1;
- an empty answer to a reference of n words has the score exp(-n), not 0;
- a benchmark's figure is the mean over sentences, not over a corpus (Lin and Och, "ORANGE", 2004).

Covers: text of space-separated languages; Chinese, whose characters count as words (not in the published evaluator,
which takes a run of them as one word). Does not cover: several references.
"""

import html
import math
import re
import sys
from collections import Counter

ORDER = 4
WORDS = re.compile(r"\w+|[^\s\w]")
HAN = re.compile(r"([\u3400-\u9fff])")
NIST = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
"""mteval-v11a: punctuation, full stops and commas except between digits, dashes behind digits."""


def smoothed_bleu(reference: str, candidate: str) -> float:
    """Between 0 and 1.

    Args:
        reference: what was wanted.
        candidate: what was written; both are cut at a tab, as published.
    """
    wanted, found = _tokens(reference), _tokens(candidate)
    logarithm = 0.0
    for n in range(1, ORDER + 1):
        ours, theirs = _ngrams(found, n), _ngrams(wanted, n)
        matches = sum(min(count, theirs[ngram]) for ngram, count in ours.items())
        total = max(0, len(found) - n + 1)
        added = 0 if n == 1 else 1
        tiny = sys.float_info.min
        logarithm += math.log(matches + added + tiny) - math.log(total + added + tiny)
    penalty = min(0.0, 1.0 - (len(wanted) + 1) / (len(found) + 1))
    return math.exp(logarithm / ORDER + penalty)


def _tokens(text: str) -> list[str]:
    """Words of a text."""
    text = HAN.sub(r" \1 ", text.split("\t")[0].strip().lower())
    text = " ".join(WORDS.findall(text)).replace("<skipped>", "")
    text = f" {_unescape(text)} ".lower()
    for pattern, replacement in NIST:
        text = pattern.sub(replacement, text)
    return text.split()


def _unescape(text: str) -> str:
    """The four escapes that mteval knows; splitting into words has broken most of them up already."""
    return re.sub(r"&(?:quot|amp|lt|gt);", lambda escape: html.unescape(escape[0]), text)


def _ngrams(tokens: list[str], n: int) -> "Counter[tuple[str, ...]]":
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))

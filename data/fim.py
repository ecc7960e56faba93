"""Fill in the middle: a share of the documents is cut in three, and the middle is told last.

From Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle" (arXiv 2207.14255): whole
documents, before they are packed, are cut at two places between characters, each place as likely as any other.

| order | what the model reads |
| --- | --- |
| PSM | `<prefix>` prefix `<suffix>` suffix `<middle>` middle |
| SPM | `<prefix>` `<suffix>` suffix `<middle>` prefix middle (the paper's second variant, for training on both) |

The language's tag line stands in front of either. The three parts are encoded each on its own, and EOD follows behind
the middle as behind any document.

Covers: cuts that depend on the document's key alone, so on no worker. Does not cover: cuts of packed rows (which
the paper finds better where documents are long), of lines, of syntax trees.
"""

from dataclasses import dataclass

import numpy as np

from mindgeex.common.errors import UserError
from mindgeex.data.split import unit_hash
from mindgeex.data.tokenizers import Tokenizer


@dataclass(frozen=True)
class FimRules:
    """Which documents are cut, and the names of the three special tokens."""

    rate: float = 0.0
    """Share of the documents that are cut, 0 to 1. 0: none; the paper goes to 0.9."""

    spm_rate: float = 0.5
    """Share of these that are told suffix first, 0 to 1."""

    tokens: tuple[str, ...] = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
    """Names of the special tokens for prefix, middle and suffix."""

    def __post_init__(self) -> None:
        for name in ("rate", "spm_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"fim.{name}={getattr(self, name)}: must lie between 0 and 1")
        if len(self.tokens) != 3 or len(set(self.tokens)) != 3 or "" in self.tokens:
            raise UserError(f"fim.tokens={list(self.tokens)}: name three different tokens: prefix, middle, suffix")


def encode_document(text: str, tag: str, tokenizer: Tokenizer, rules: FimRules, key: tuple[str, ...]) -> np.ndarray:
    """The ids of a document, int32, without EOD: as it is, or with its middle last.

    Args:
        text: the document's text.
        tag: the language's tag line, without its line end; empty for none.
        tokenizer: has the three tokens, if any document is to be cut.
        rules: which documents are cut, and the tokens' names.
        key: what names the document, such as seed, repository and path; the choice and the cuts are a hash of it.

    Raises:
        UserError: the tokenizer lacks one of the tokens.
    """
    head = f"{tag}\n" if tag else ""
    if not is_cut(rules, key):
        return tokenizer.encode_array(head + text, eod_in_text=False)
    prefix_id, middle_id, suffix_id = (np.array([id], np.int32) for id in token_ids(tokenizer, rules))
    prefix, middle, suffix = (tokenizer.encode_array(part, eod_in_text=False) for part in cut(text, key))
    if unit_hash(0, "fim order", *key) < rules.spm_rate:
        told = [prefix_id, suffix_id, suffix, middle_id, prefix, middle]
    else:
        told = [prefix_id, prefix, suffix_id, suffix, middle_id, middle]
    return np.concatenate([tokenizer.encode_array(head, eod_in_text=False), *told])


def is_cut(rules: FimRules, key: tuple[str, ...]) -> bool:
    """Whether the document of this key is cut."""
    return rules.rate > 0 and unit_hash(0, "fim", *key) < rules.rate


def cut(text: str, key: tuple[str, ...]) -> tuple[str, str, str]:
    """Prefix, middle and suffix, which together are the text; any of them may be empty."""
    places = len(text) + 1
    first, second = sorted(int(unit_hash(0, f"fim cut {number}", *key) * places) for number in range(2))
    return text[:first], text[first:second], text[second:]


def check_tokens(tokenizer: Tokenizer, rules: FimRules) -> None:
    """Raises UserError if documents are to be cut and the tokenizer lacks one of the tokens."""
    if rules.rate > 0:
        token_ids(tokenizer, rules)


def token_ids(tokenizer: Tokenizer, rules: FimRules) -> tuple[int, ...]:
    """The ids of the tokens for prefix, middle and suffix.

    Raises:
        UserError: the tokenizer lacks one of them.
    """
    found = {name: tokenizer.special_id(name) for name in rules.tokens}
    missing = [name for name, id in found.items() if id is None]
    if missing:
        raise UserError(
            f"{tokenizer.folder}: no special token {missing[0]} for fim.tokens: train a tokenizer with "
            f"`mindgeex tokenizer train --special {' '.join(rules.tokens)}`, or name three unused ones of this one, "
            "such as <|extratoken_140|> of CodeGeeX's"
        )
    return tuple(id for id in found.values() if id is not None)

"""Our byte-level BPE as MindFormers' tokenizer: a folder with vocab.json, merges.txt and added_tokens.json.

Covers: CodeGeeX's whitespace tokens, which here are named by the blanks they stand for; a tokenizer.json as it is.
Does not cover: SentencePiece models, which MindFormers' own LlamaTokenizer reads.
"""

from pathlib import Path
from typing import Any

from mindformers.models.tokenization_utils_fast import PreTrainedTokenizerFast
from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

from mindgeex.common.errors import UserError
from mindgeex.common.files import read_json
from mindgeex.model_zoo.checkpoints.hf_tokenizer import ADDED, RUNS

EOD = "<|endoftext|>"


@MindFormerRegister.register(MindFormerModuleType.TOKENIZER)
class MindGeeXTokenizer(PreTrainedTokenizerFast):
    """For both families; `vocab_file` names the folder's vocab.json, `tokenizer_file` a tokenizer.json instead."""

    vocab_files_names = {"vocab_file": "vocab.json", "merges_file": "merges.txt", "tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab_file: str | None = None,
        merges_file: str | None = None,
        tokenizer_file: str | None = None,
        eos_token: str = EOD,
        **keys: Any,
    ):
        """Raises UserError: neither file is given, or one is missing or damaged."""
        keys.setdefault("pad_token", eos_token)
        keys |= {"eos_token": eos_token, "clean_up_tokenization_spaces": False}
        if tokenizer_file:
            if not Path(tokenizer_file).is_file():
                raise UserError(f"processor.tokenizer.tokenizer_file is {tokenizer_file}: no such file")
            super().__init__(tokenizer_file=tokenizer_file, **keys)
        elif vocab_file:
            path = Path(vocab_file)
            merges = Path(merges_file) if merges_file else path.parent / "merges.txt"
            super().__init__(tokenizer_object=byte_bpe(path, merges, eos_token), **keys)
        else:
            raise UserError("processor.tokenizer.vocab_file is not set: name the tokenizer's vocab.json")


def byte_bpe(vocab_file: Path, merges_file: Path, eos_token: str) -> Any:
    """The `tokenizers.Tokenizer` of a folder, with the ids that data/tokenizers gives.

    Raises:
        UserError: a file is missing or damaged, by name.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    added_file = vocab_file.parent / ADDED
    vocab, added = read_json(vocab_file), read_json(added_file) if added_file.is_file() else {}
    if not isinstance(vocab, dict) or not isinstance(added, dict):
        raise UserError(f"{vocab_file.parent}: vocab.json and {ADDED} must be objects of tokens and ids")
    if RUNS.keys() <= added.keys():
        added = {RUNS.get(token, token): id for token, id in added.items()}
    try:
        lines = merges_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{merges_file}: cannot be read: {error}") from None
    pairs = [tuple(line.split(" ")) for line in lines if line.count(" ") == 1 and not line.startswith("#version:")]
    bpe = Tokenizer(models.BPE({**vocab, **added}, pairs))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    blanks = [token for token in added if token.isspace()]
    bpe.add_tokens([AddedToken(token, normalized=False) for token in blanks])
    special = [token for token in (*added, eos_token) if token not in blanks]
    bpe.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in dict.fromkeys(special)])
    return bpe

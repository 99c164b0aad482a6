"""The tokenizer in a GGUF file, giving the ids that its model was trained on.

A file names the way text is split before pairs are merged (``tokenizer.ggml.pre``) and leaves the rule to the
reader. A wrong rule costs nothing but the score: digits or indentation become ids that the model seldom saw.
So each name stands here for the rule of the models it was given to, and a file with any other is refused.
"""

import re
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from codestill.models.gguf.header import Header

_NO_TOKEN = re.compile(r"\[PAD\d+\]")  # what llama.cpp's converter calls rows for which there is no token
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
# Control tokens that end an answer, as models spell them; a file names one or two of a model's own.
_ENDS = frozenset({
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|EOT|>",
    "<end_of_turn>", "</s>", "<｜end▁of▁sentence｜>",
})  # fmt: skip

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
_CAPITALS, _SMALLS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


@dataclass(frozen=True)
class Rule:
    """How one family splits text. ``splits`` are regular expressions, applied one after another; each match,
    and each piece between matches, is a piece of its own."""

    splits: tuple[str, ...] = ()
    digits: bool = False
    """Each digit by itself, before anything else."""
    gpt2: bool = False
    """GPT-2's regular expression, in the end."""
    whole_words: bool = False
    """A piece that is a token by itself is not merged from parts."""
    composed: bool = False
    """Text is normalised to NFC, as Qwen's tokenizers do."""
    bos: bool = False
    """A text begins with BOS, where the file does not say."""


_DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}*{_SMALLS}+|[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}+{_SMALLS}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = Rule((rf"{_SHORT}{_WORDS}|\p{{N}}{_REST}",), composed=True)
_LLAMA3 = Rule((rf"{_SHORT}{_WORDS}|\p{{N}}{{1,3}}{_REST}",), whole_words=True, bos=True)
_GPT2, _STARCODER = Rule(gpt2=True), Rule(gpt2=True, digits=True)
RULES: dict[str, Rule] = {
    "gpt-2": _GPT2,
    "mellum": _GPT2,
    "starcoder": _STARCODER,
    "smollm": _STARCODER,
    "refact": _STARCODER,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": Rule(_QWEN2.splits),
    "deepseek-coder": Rule(_DEEPSEEK_CODER),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "tekken": Rule((_TEKKEN,), whole_words=True, bos=True),
}
"""``tokenizer.ggml.pre`` -> rule, as in llama.cpp's llama-vocab.cpp and the models' own tokenizer.json."""


def tokenizer_of(header: Header) -> PreTrainedTokenizerFast:
    """The tokenizer with its special tokens and chat template. Raises ModelError for one whose ids would not
    be the model's."""
    require_tokenizer(header)
    rule = RULES[header.get("tokenizer.ggml.pre")]
    spelled: list[str] = header.want("tokenizer.ggml.tokens")
    types: list[int] = header.want("tokenizer.ggml.token_type")
    vocabulary = {
        token: id
        for id, (token, kind) in enumerate(zip(spelled, types, strict=True))
        if not (kind == UNUSED and _NO_TOKEN.fullmatch(token))
    }
    try:
        merges = [_pair(merge) for merge in header.want("tokenizer.ggml.merges")]
        tokenizer = splitting(vocabulary, merges, rule)
    except Exception as error:  # tokenizers raises a bare Exception for merges of unknown tokens
        raise header.refused(f"has a tokenizer that makes no sense: {error}", "Download it again.") from error
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        tokenizer.add_tokens(
            [
                AddedToken(token, normalized=False, special=special)
                for token, its_kind in zip(spelled, types, strict=True)
                if its_kind == kind
            ]
        )
    named = {
        f"{role}_token": spelled[id]
        for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (id := token_id(header, key)) is not None
    }
    if (bos := named.get("bos_token")) and header.get("tokenizer.ggml.add_bos_token", rule.bos):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, spelled.index(bos))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_input_names=_INPUTS, **named
    )
    wrapped.chat_template = header.get("tokenizer.chat_template")
    return wrapped


def splitting(vocabulary: dict[str, int], merges: list[tuple[str, str]], rule: Rule) -> Tokenizer:
    """A tokenizer without added tokens, which splits text as the rule says."""
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=rule.whole_words))
    if rule.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(_steps(rule))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


_INPUTS = ["input_ids", "attention_mask"]


def require_tokenizer(header: Header) -> None:
    """Raise ModelError for a kind of tokenizer, or a way to split text, that is not known here."""
    kind = header.want("tokenizer.ggml.model")
    if kind != "gpt2":
        raise header.refused(
            f"has a tokenizer of the kind {kind!r}; only byte-level BPE (gpt2) can be rebuilt with its ids"
        )
    if (name := header.want("tokenizer.ggml.pre")) not in RULES:
        raise header.refused(
            f"splits text by the rule {name!r}, which is not known here; another would give ids that the "
            f"model was not trained on (known are {', '.join(RULES)})"
        )
    if token_id(header, "eos") is None:
        raise header.refused("names no end-of-sequence token, so no completion could end")


def token_id(header: Header, role: str) -> int | None:
    """The id of the file's ``bos``, ``eos``, ``unknown`` or ``padding`` token; None where it names none."""
    id: Any = header.get(f"tokenizer.ggml.{role}_token_id")
    count = header.count("tokenizer.ggml.tokens")
    return int(id) if id is not None and 0 <= int(id) < count else None


def end_ids(header: Header) -> list[int]:
    """Ids that end an answer: the file's end of sequence first, then its end of turn and of message, and any
    other control token that is known to end answers."""
    named = [token_id(header, role) for role in ("eos", "eot", "eom")]
    spelled = zip(header.want("tokenizer.ggml.tokens"), header.want("tokenizer.ggml.token_type"), strict=True)
    known = [id for id, (token, kind) in enumerate(spelled) if kind == CONTROL and token in _ENDS]
    return list(dict.fromkeys(id for id in (*named, *known) if id is not None))


def _pair(merge: str) -> tuple[str, str]:
    """The two tokens that a merge joins; a space may begin the first of them, and separates them."""
    space = merge.index(" ", 1)
    return merge[:space], merge[space + 1 :]


def _steps(rule: Rule) -> list[Any]:
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if rule.digits else []
    steps += [pre_tokenizers.Split(Regex(split), behavior="isolated") for split in rule.splits]
    return [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule.gpt2)]

"""How a model reads another's rows: the same texts, in tokens and a form of its own."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from codestill.models.chat import ChatCodec
from codestill.models.codec import TextCodec


def reading(reader: TextCodec, writer: TextCodec) -> tuple[TextCodec, bool]:
    """Encodes the rows of ``writer``'s model for the one that ``reader`` belongs to, so that the completions
    have the same text; and whether they end alike.

    Where both chat, a prompt is a message in the reader's own template, and each ends its turn in its own
    way. Where both continue text, so do the rows. Where one alone chats, the rows are plain text, and an end
    says nothing: a turn does not end as a text does.
    """
    if not isinstance(writer, ChatCodec):
        return TextCodec(reader.tokenizer), not isinstance(reader, ChatCodec)
    prefix = writer.config.answer_prefix
    if isinstance(reader, ChatCodec):
        config = reader.config.model_copy(update={"answer_prefix": prefix})
        return ChatCodec(reader.tokenizer, config), True
    return _PlainMessages(reader.tokenizer, prefix), False


class _PlainMessages(TextCodec):
    """Encodes messages and answers without a template: an answer stands below its message."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prefix: str) -> None:
        super().__init__(tokenizer)
        self.prefix = prefix

    def examples(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        plain = [
            (f"{message.rstrip()}\n\n{self.prefix}", answer.removeprefix(self.prefix))
            for message, answer in pairs
        ]
        return super().examples(plain)

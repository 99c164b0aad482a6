"""A teacher of which settings alone are here: its tokenizer, and the form in which it reads prompts."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from codestill.errors import ConfigError
from codestill.models.chat import codec_for as form_codec
from codestill.models.codec import TextCodec
from codestill.models.gguf.header import Header, is_gguf
from codestill.models.gguf.tokenizer import tokenizer_of as tokenizer_in
from codestill.models.load import resolve
from codestill.models.settings import ChatConfig
from codestill.models.tokenizers import load_tokenizer
from codestill.teachers.endpoint import ApiTeacherConfig
from codestill.teachers.local import LocalTeacherConfig


def tokenizer_of(config: LocalTeacherConfig | ApiTeacherConfig) -> PreTrainedTokenizerBase:
    """The tokenizer alone; of an endpoint the one that ``tokenizer`` names, and of a GGUF file that it names
    nothing else is read. Raises ConfigError where it names none, ModelError where it cannot be loaded."""
    if isinstance(config, LocalTeacherConfig):
        return config.tokenizer()
    if config.tokenizer is None:
        raise ConfigError(
            f"which tokens {config.model} lists is read with its tokenizer, and none is named.",
            next_step="Set teacher.tokenizer to its directory, GGUF file or hub id.",
        )
    path = Path(config.tokenizer).expanduser()
    if path.is_file() and is_gguf(path):
        return tokenizer_in(Header.read(path))
    return load_tokenizer(resolve(config.tokenizer, weights=False))


def codec_for(config: LocalTeacherConfig | ApiTeacherConfig, tokenizer: PreTrainedTokenizerBase) -> TextCodec:
    """Encodes what the teacher reads. Behind the chat endpoint that is a message in its template, if its
    tokenizer has one."""
    if isinstance(config, LocalTeacherConfig):
        return form_codec(config, tokenizer, config.model)
    chats = config.endpoint == "chat" and bool(tokenizer.chat_template)
    form = ChatConfig(chat=chats, system_prompt=config.system_prompt if chats else None)
    return form_codec(form, tokenizer, config.model)

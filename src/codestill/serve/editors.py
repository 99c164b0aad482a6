"""Ready configuration for editors."""

import json

_VIM = """\
let g:llama_config = {{
    \\ 'endpoint_fim': '{address}/infill',
    \\ 'endpoint_inst': '{address}/v1/chat/completions',
    \\ 'api_key': '{key}',
    \\ }}"""
_AUTOCOMPLETE = """\
  - name: {name}
    provider: mistral
    model: {model}
    apiBase: {address}/v1/
    apiKey: {key}
    roles: [autocomplete]"""
_CHAT = """\
  - name: {name} (chat)
    provider: openai
    model: {model}
    apiBase: {address}/v1/
    apiKey: {key}
    roles: [chat, edit]"""
_HEAD = "name: codestill\nversion: 1.0.0\nschema: v1\nmodels:"
NO_KEY = "none"
"""What stands for a key where the server asks for none: some clients do not start without."""


def configurations(name: str, address: str, *, infills: bool, chats: bool, key: str) -> dict[str, str]:
    """Where to put it -> what to put there, for each editor that the model serves. ``key``: what to show for
    the key, empty where there is none.

    Continue fills gaps through Mistral's form, the one of its providers that sends prefix and suffix as they
    are: a template in a prompt would be read as text.
    """
    found: dict[str, str] = {}
    values = {"name": json.dumps(name)[1:-1], "model": json.dumps(name), "address": address}
    models = [(_AUTOCOMPLETE, infills), (_CHAT, chats)]
    listed = [text.format(**values, key=key or NO_KEY) for text, wanted in models if wanted]
    if listed:
        found["Continue (~/.continue/config.yaml)"] = "\n".join([_HEAD, *listed])
    if infills:
        found["llama.vim (vimrc)"] = _VIM.format(address=address, key=key)
        settings = {"llama-vscode.endpoint": address} | ({"llama-vscode.api_key": key} if key else {})
        found["llama.vscode (settings.json)"] = json.dumps(settings, indent=2)
    return found

"""GGUF files, llama.cpp's format of quantised models, as Hugging Face folders.

``header`` reads what a file states and refuses what cannot be read, ``shape`` makes the config of it,
``tokenizer`` the tokenizer, ``convert`` the weights; ``store`` keeps the result by the file's content hash.
"""

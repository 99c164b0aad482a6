"""codestill: distil code-generation language models, and prove the student by running tests."""

__version__ = "0.1.0"

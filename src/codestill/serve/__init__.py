"""A student behind OpenAI's API: for editors, programs, and machines that it teaches.

config     settings, and what may be asked for
start      from settings to a server that listens
llama      llama.cpp's server in its place, for GGUF files
editors    ready configuration for editors
app        the routes; gate is what a request must pass, refusal an error in OpenAI's form
protocol   bodies of requests; answers and spelling are what is sent back
service    what a request asks for, as jobs, and their answers
engine     the thread that owns the model; jobs and stops are its work, scoring what it says of a prompt
metrics    what is counted and timed
"""

from codestill.serve.config import Limits, ServeConfig
from codestill.serve.start import serve

__all__ = ["Limits", "ServeConfig", "serve"]

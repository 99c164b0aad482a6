"""What static pages share: templates, a script that may run, colours, and two programs side by side.

A page is one file that loads nothing: its style and script are in it, and its policy lets that script alone
run.
"""

import base64
import hashlib
from importlib import resources

import jinja2
from markupsafe import Markup

from codestill.pages.differences import Line, Pair, side_by_side
from codestill.terminal import printable

__all__ = ["Line", "Pair", "cut", "render", "side_by_side", "templates_of"]


def templates_of(package: str) -> jinja2.Environment:
    """The templates of a package, and beside them those of all pages: ``base.css`` and ``macros.html.j2``.

    What ends with ``.html.j2`` is escaped; ``script(name)`` and ``policy(name)`` are a script of the package
    and the policy that lets it alone run.
    """
    loaders = [jinja2.PackageLoader(name) for name in (package, "codestill.pages")]
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["script"] = lambda name: Markup(_file(package, name))
    templates.globals["policy"] = lambda name: Markup(_policy(_file(package, name)))
    templates.globals["side_by_side"] = side_by_side
    return templates


def render(templates: jinja2.Environment, name: str, /, **context: object) -> str:
    """A page. Names and programs may hold signs that turn the writing direction, or steer the terminal of a
    reader: they are made visible."""
    return printable(templates.get_template(name).render(context))


def cut(text: str, longest: int) -> str:
    """At most the first ``longest`` characters, and how many more there are."""
    rest = len(text) - longest
    return text if rest <= 0 else f"{text[:longest]}\n… {rest:,} more characters are not shown"


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(package: str, name: str) -> str:
    return resources.files(package).joinpath(f"templates/{name}").read_text(encoding="utf-8")

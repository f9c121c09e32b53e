"""Renders a page as one file that refers to no other file."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from etl.pages.console import TEMPLATES, shared_script, shared_styles
from etl.pages.text import count, plain, share, unbroken
from etl.readings.text import plural

_ENVIRONMENT = Environment(loader=PackageLoader("etl.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
"""The templates of the pages; everything a machine sent is escaped."""
_ENVIRONMENT.filters.update(plain=plain, amount=count, plural=plural, share=share, unbroken=unbroken)


def render(template: str, context: Mapping[str, Any], *stylesheets: str) -> bytes:
    """Render a page with its style and script inline, and their hashes for its policy."""
    style = b"".join((shared_styles(), *((TEMPLATES / name).read_bytes() for name in stylesheets)))
    inline = {"style": style, "script": shared_script()}
    hashes = {name: b64encode(sha256(content).digest()).decode() for name, content in inline.items()}
    texts = {name: Markup(content.decode()) for name, content in inline.items()}  # noqa: S704  files of this package
    page = _ENVIRONMENT.get_template(template).render({**context, **texts, "hashes": hashes})
    return page.encode("utf-8", "replace")

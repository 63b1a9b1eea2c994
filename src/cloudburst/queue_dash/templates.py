"""rq-dashboard's templates, changed as they are read: whatever a job, a queue or a worker says is text.

Its pages are made in the browser, by underscore's templates. In these ``<%= ... %>`` puts in HTML as it is,
which rq-dashboard uses for exceptions, results, names and metadata; ``<%- ... %>`` escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from jinja2 import BaseLoader, Environment

_CHANGES = (
    # What it escapes itself, though not for attributes, would be escaped twice.
    (re.compile(r"<%=\s*\$\('<div/>'\)\.text\((.+?)\)\.html\(\)\s*%>"), r"<%- \1 %>"),
    (re.compile("<%="), "<%-"),
    # Names in its scripts, between quotes that they could close.
    (re.compile(r"""(['"])\{\{ ([\w.]+) \}\}\1(?=\))"""), r"{{ \2|tojson }}"),
    # Scripts that run; those of other types are templates.
    (re.compile(r'<script(?=[^>]*type="text/javascript")'), '<script nonce="{{ nonce }}"'),
)


class Escaping(BaseLoader):
    """Reads templates from another loader."""

    def __init__(self, source: BaseLoader) -> None:
        self._source = source

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        """The template's text, its file, and whether it is still that."""
        text, path, is_current = self._source.get_source(environment, template)
        for pattern, ours in _CHANGES:
            text = pattern.sub(ours, text)
        return text, path, is_current

    def list_templates(self) -> list[str]:
        """Names of all templates."""
        return self._source.list_templates()

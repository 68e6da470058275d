"""Makes Markdown from figures and from text of outside: tables, and escaped text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from saec.report import text


def escape(value: object) -> str:
    r"""Text from outside as literal text of one line of markdown, also inside a table.

    >>> print(escape("<b> a|b *c*"))
    &lt;b&gt; a\|b \*c\*
    """
    literal = text.plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~:@-])", r"\\\1", literal)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table, the first column left, the others right aligned; nothing for no rows."""
    if not rows:
        return ""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))

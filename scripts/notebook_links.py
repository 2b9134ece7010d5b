"""A hook of MkDocs, which rewrites links between Markdown pages, but not those in a notebook."""

from __future__ import annotations

import re
from typing import Any


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Links of a notebook to `page.md`, as they are in the checkout, to `page.html`."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    return re.sub(r'(<a href="[\w./-]+)\.md\b', r"\1.html", html)

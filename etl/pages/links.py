"""Links between the pages, relative: they work below any path of a reverse proxy."""

from urllib.parse import quote, urlencode

from markupsafe import escape

PLACEHOLDER = b"<!-- links -->"
"""Stands in the page of a report where the links go once it is served; opened as a file, it has none."""


def machine_query(source: str, id_json: str) -> str:
    """What names a machine in an address: its source, and its id as JSON."""
    return urlencode({"source": source, "id": id_json}, quote_via=quote, errors="replace")


def with_links(page: bytes, previous: str | None, following: str | None, note: str = "") -> bytes:
    """The page of a report with links to the reports before and after it and to the console, behind a `note`.

    A page of a version without the placeholder is returned as it is.
    """
    links = []
    if previous:
        links.append(f'<a href="{previous}" rel="prev">← {previous}</a>')
    if following:
        links.append(f'<a href="{following}" rel="next">{following} →</a>')
    links.append('<a href="../">Console</a>')
    text = f"<p>{escape(note)}</p>" if note else ""
    nav = f'{text}<nav class="links" aria-label="Days">{" ".join(links)}</nav>'
    return page.replace(PLACEHOLDER, nav.encode(), 1)

"""Makes text safe to stand in HTML."""

import html

from accord.reports._plain import text


def escape(value: object) -> str:
    """A value as text that is safe between tags and inside quoted attributes."""
    return html.escape(text(value), quote=True)

"""Pages of lists, as requests ask for them and answers lead from one to the next."""

import base64
import binascii
import re

from tallymesh_core.domain.errors import InvalidField


def page_size(given: int, default: int, most: int) -> int:
    """Returns how many items a page may hold; InvalidField if out of bounds."""
    if not 0 <= given <= most:
        raise InvalidField("page_size", given, f"a number from 1 to {most}, or 0 for {default}")
    return given or default


def page_token(cursor: str, filters: str) -> str:
    """Makes a token that asks for the page after `cursor`, under the same filters."""
    return base64.urlsafe_b64encode(f"{cursor} {filters}".encode()).decode()


def page_cursor(token: str, filters: str, form: str) -> str:
    """Returns the cursor in a token, "" for the first page.

    Args:
        token: The token.
        filters: As of page_token.
        form: What a cursor of the list looks like, as a regular expression.

    Raises:
        InvalidField: It is not a token that these filters were given.
    """
    if not token:
        return ""
    try:
        cursor, _, asked = base64.urlsafe_b64decode(token.encode()).decode().partition(" ")
    except (binascii.Error, UnicodeError):
        cursor = asked = ""
    if not re.fullmatch(form, cursor) or asked != filters:
        raise InvalidField("page_token", token, "the next_page_token of a page of the same list")
    return cursor

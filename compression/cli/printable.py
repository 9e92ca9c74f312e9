"""Names and errors as a terminal may show them."""


def printable(text: str) -> str:
    r"""Escape each character that can't be printed, such as `\x1b`, which would command a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

"""What every refusal must look like."""

LONGEST = 1_000  # characters


def is_sentence(text):
    """Return whether a message is one line that a terminal can show, and short enough to be read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text.strip()) and text.isprintable() and len(text) <= LONGEST

"""What a disk, an editor or a torn write does to the bytes of a file."""

from hypothesis import strategies as st

_TEXTS = [b"", b"\n", b'"', b"'", b",", b"{", b"}", b"[" * 2000, b"\0", b"\xff\xfe", b"NaN", b"null", b"-1", b"1e999"]
_TEXTS += [b"9" * 5000, b'{"format": 1', b"\\u0000", b"true", b"\r\n", "\u2028".encode(), b"- a: b\n", b"!!python/x"]


def _flip(data, place, size, text):
    return data[:place] + bytes([data[place] ^ (1 << size % 8)]) + data[place + 1 :] if data else data


def _cut_end(data, place, size, text):
    return data[:place]


def _cut_out(data, place, size, text):
    return data[:place] + data[place + size :]


def _repeat(data, place, size, text):
    return data[: place + size] + data[place:]


def _insert(data, place, size, text):
    return data[:place] + text + data[place:]


def _overwrite(data, place, size, text):
    return data[:place] + text + data[place + len(text) :]


def _zeros(data, place, size, text):
    return data[:place] + bytes(min(size, len(data) - place)) + data[place + size :]


_STEP = st.tuples(
    st.sampled_from([_flip, _cut_end, _cut_out, _repeat, _insert, _overwrite, _zeros]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 400),
    st.one_of(st.sampled_from(_TEXTS), st.binary(max_size=6)),
)
DAMAGE = st.lists(_STEP, min_size=1, max_size=3)
"""Up to three of: a flipped bit, a cut end, a part cut out, repeated, inserted, overwritten, or zeroed."""


def damaged(data, steps):
    """Return the bytes after the damage."""
    for change, place, size, text in steps:
        data = change(data, int(place * len(data)), size, text)
    return data

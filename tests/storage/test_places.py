"""Lines found in the logs by number or offset, and read backwards."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from etl.storage import places
from etl.storage.folder import Folder


@given(
    lines=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"\r")), max_size=12),
    torn=st.sampled_from([b"", b"torn"]),
    block=st.integers(1, 20),
    size=st.integers(1, 200),
)
@settings(max_examples=150, deadline=None)
def test_lines_are_read_backwards(tmp_path_factory, lines, torn, block, size):
    """For any block size, the complete lines in the last bytes are read, newest first."""
    folder = Folder(tmp_path_factory.mktemp("back"))
    path = folder.path("raw", "2026-11-22")
    path.parent.mkdir()
    content = b"".join(line + b"\n" for line in lines) + torn
    path.write_bytes(content)
    kept, left = [], size - len(torn)
    for line in reversed(lines):
        left -= len(line) + 1
        if left < 0:
            break
        kept.append(line)
    before, places.READ_BYTES = places.READ_BYTES, block
    try:
        assert list(places.last_lines(folder, "raw", size)) == kept
    finally:
        places.READ_BYTES = before

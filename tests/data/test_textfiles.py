"""Faults of index files: each is one sentence that names the file."""

import gzip

import pytest

from avdetect.data.textfiles import read_json, read_lines, read_table
from avdetect.errors import DataError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1', "is not valid JSON"),
        (b'{"a": "\xff"}', "is not valid JSON"),
        (b"[1]", "is no object with an entry for each clip"),
        (b'{"a.mp4": {"label": "FAKE"}, "a.mp4": {"label": "REAL"}}', "the key 'a.mp4' is there twice"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_damaged_json(tmp_path, content, words):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_json(file, dict)
    assert str(file) in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(file, dict) == {"a": 1}
    file.write_bytes(b"\xef\xbb\xbfpath,label\r\na.mp4,1\r\n")
    assert read_table(file).to_dict("records") == [{"path": "a.mp4", "label": 1}]
    file.write_bytes(b"\xef\xbb\xbf1 a.mp4\r\n\r\n0 b.mp4\r\n")
    assert list(read_lines(file)) == [(1, "1 a.mp4"), (3, "0 b.mp4")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path,label\na.mp4,1,2\nb.mp4,0,2\n", "more fields than its header"),
        (b"path,label\na.mp4,1,2,3\n", "more fields than its header"),
        (b"path,label\n\xff.mp4,1\n", "cannot be read as CSV"),
        (b"", "cannot be read as CSV"),
    ],
)
def test_damaged_tables(tmp_path, content, words):
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(file, dtype="string")


def test_a_comma_at_the_ends_of_lines_moves_nothing(tmp_path):
    """pandas by itself would take the first column for row numbers, and the label for the path."""
    file = tmp_path / "x.csv"
    file.write_text("path,label\na.mp4,1,\nb.mp4,0,\n")
    assert read_table(file).to_dict("list") == {"path": ["a.mp4", "b.mp4"], "label": [1, 0]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.txt", b"a\n\xff\n", "is not UTF-8 text"),
        ("x.gz", b"a\n", "is no whole gzip file"),
        ("x.gz", gzip.compress(b"a\n" * 1000, mtime=0)[:-9], "is no whole gzip file"),
    ],
)
def test_damaged_lines(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        list(read_lines(tmp_path / name))

"""Text for messages: what comes from outside is clipped, on one line and printable; addresses without secrets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.readings.text import clipped, excerpt, natural_key, shown_address


@given(st.text(), st.integers(4, 100))
def test_a_clipped_text_is_short_printable_and_begins_as_the_text(text, limit):
    """At most `limit` characters, each printable; a short printable text without double spaces stays as it is."""
    shown = clipped(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    if text.isprintable() and len(text) <= limit and text == " ".join(text.split()):
        assert shown == text


@given(st.binary(max_size=2000))
def test_an_excerpt_of_any_bytes_is_short_and_printable(body):
    """Bytes that are not UTF-8, control characters and long bodies are safe in a log line."""
    assert len(excerpt(body)) <= 80
    assert excerpt(body).isprintable()


def test_what_is_left_out_is_marked():
    """Three dots end a text that was cut, and no other."""
    assert clipped("x" * 10, 10) == "x" * 10
    assert clipped("x" * 11, 10) == "x" * 7 + "..."
    assert excerpt(b"x" * 5_000_000) == "x" * 77 + "..."
    assert excerpt(b" " * 5_000_000 + b"x").endswith("...")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://press-7.plant:8080/data", "http://press-7.plant:8080/data"),
        ("http://user:a@hunter2@[::1]:80/x?key=hunter2#f", "http://[::1]:80/x?..."),
        ("https://user:hunter/2@h/", "https://h/"),
        ("http://user:p@h:80/@id/data", "http://h:80/@id/data"),
        ("http://h/@id", "http://h/@id"),
        ("/mnt/press 7.jsonl", "/mnt/press 7.jsonl"),
        ("\x1b[2J", "\\u001b[2J"),
    ],
)
def test_an_address_is_shown_without_login_and_query(address, shown):
    """What may hold a secret is left out; the rest tells which machine it is."""
    assert shown_address(address) == shown


@given(st.lists(st.integers(0, 10**30)))
def test_numbers_in_names_are_sorted_as_numbers(numbers):
    """Of names that differ only in a number the smaller number comes first."""
    names = [f"m-{number}x" for number in numbers]
    assert sorted(names, key=natural_key) == [f"m-{number}x" for number in sorted(numbers)]


@given(st.lists(st.text("ab-019\u0663\u00b2", max_size=12)))
def test_any_names_can_be_sorted(names):
    """Leading zeros, digits of other scripts, numbers at the start or the end and very long ones."""
    assert all(natural_key(a) <= natural_key(b) for a, b in pairwise(sorted(names, key=natural_key)))
    assert natural_key("9" * 10_000) > natural_key("8" * 10_000)

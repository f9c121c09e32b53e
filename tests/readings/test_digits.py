"""Numbers for people: the digits that a sensor resolves, and no more."""

from __future__ import annotations

import struct
from math import inf, nan, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.pages.text import figure, share, unbroken
from etl.readings.digits import average_decimals, decimals, number, quantity, with_unit


@given(numbers=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=300), places=st.integers(0, 4))
def test_the_digits_are_those_of_the_readings(numbers, places):
    """Readings of a sensor with so many decimals have as many, also with the noise of floats."""
    readings = [(10 * whole + 3) / 10**places for whole in numbers]
    assert decimals(readings) == places
    assert decimals([nextafter(reading, inf) for reading in readings]) == places


@pytest.mark.parametrize(
    ("readings", "places"),
    [
        ([], 0),
        ([nan, inf], 0),
        ([869.0, 870.0], 0),
        ([20.2, 20.180000000000003, 0.1 + 0.2], 2),
        ([12345678.9, 12345679.4], 1),
        ([20.183333333333334, 20.1], 4),
        ([1 / 3], 6),
        ([0.00123, 0.00125], 5),
        ([1e300], 0),
        (list(struct.unpack("3f", struct.pack("3f", 811.62, 20.18, 0.1))), 2),
        ([1234567.5], 1),
        ([29.0, 29.5] * 150, 1),
        ([29.0, 29.25] * 100, 2),
        ([20.18] * 96 + [20.123456] * 4, 2),
    ],
)
def test_digits_of_unusual_readings(readings, places):
    """Float noise, single precision, computed values and a few finer ones do not add digits."""
    assert decimals(readings) == places


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (20.180000000000003, 2, "20.18"),
        (1234567.0, 0, "1,234,567"),
        (-0.001, 2, "0.00"),
        (1e300, 0, "1e+300"),
        (1.5e-12, 13, "1.5e-12"),
        (899.7, -1, "900"),
    ],
)
def test_a_number_has_its_places(value, places, text):
    """A number is rounded, with thousands apart, and never -0; where it would be too long it has an exponent."""
    assert number(value, places) == figure(value, places) == text


@given(st.integers(0, 10**9 - 1), st.integers(0, 6))
def test_a_quantity_has_the_digits_that_it_was_written_with(digits, decimals):
    """A decimal of up to nine digits is shown as it was written, also after it took part in an average."""
    written = digits / 10**decimals
    noisy = written * (1 + 2**-51)
    assert quantity(written) == quantity(noisy)
    assert float(quantity(written).replace(",", "")) == written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20.180000000000003, "20.18"),
        (20.033333333333335, "20.0333"),
        (20.100000381469727, "20.1"),
        (123456.78, "123,456.78"),
        (900.0, "900"),
        (-0.5, "-0.5"),
        (12345678901234567890, "12,345,678,901,234,567,890"),
        (1e300, "1e+300"),
    ],
)
def test_a_quantity_has_no_digits_of_noise(value, text):
    """Binary fractions, quotients and numbers of 32 bits are rounded; whole numbers are not."""
    assert (quantity(value), quantity(value, None), quantity(value, "°C")) == (text, text, f"{text} °C")


def test_where_there_is_no_value_there_is_a_dash():
    """A parameter without values has dashes in the table."""
    assert figure(None, 2) == "\N{EN DASH}"


def test_an_average_resolves_finer_up_to_two_decimals():
    """An average of whole numbers has one decimal, one of tenths two; finer readings keep their digits."""
    assert [average_decimals(places) for places in range(5)] == [1, 2, 2, 3, 4]


def test_no_line_ends_between_a_number_and_its_unit():
    """Units and per cent signs follow a no-break space; without a unit nothing follows."""
    assert with_unit("20.18", "°C") == "20.18\xa0°C"
    assert with_unit("20.18", "") == "20.18"
    assert unbroken(f"sent {share(1, 3)} of 20 %") == "sent 33.3\xa0% of 20\xa0%"

"""Charts: what is drawn of a series, and the readings that values.js shows."""

from __future__ import annotations

import re
from math import isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import analyze_values
from etl.pages.charts import Band, Marks, chart, split_at_gaps, time_axis
from etl.pages.scale import HEIGHT
from tests.support.reports import BERLIN, midnight

START = midnight("2026-11-22")


def axis_of():
    return time_axis(START, midnight("2026-11-22", 1), BERLIN, 10.0)


def chart_of(times, values, average=50.0, threshold=0.2, label="a day"):
    """A chart of a day's readings, every 10 s, as they are: without thinning."""
    return chart(split_at_gaps(times, values, 10.0), axis_of(), Band.around(average, threshold), label)


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [(0.5, ["00:00:00", "00:00:01"]), (60, ["00:00:00", "00:00:15", "00:00:30", "00:00:45", "00:01:00"]),
     (600, ["00:00", "00:02", "00:04", "00:06", "00:08", "00:10"]), (60 * 86_400, ["11-22", "11-29", "12-06"])],
)  # fmt: skip
def test_an_axis_of_any_length_has_few_round_labels(seconds, labels):
    """The labels are seconds, minutes or days, depending on the length of the range."""
    start = midnight("2026-11-22")
    shown = re.findall(r">([\d:-]+)<", time_axis(start, start + seconds, BERLIN, 10.0).svg)
    assert (shown[: len(labels)], len(shown) <= 10) == (labels, True)


def test_gaps_are_gaps():
    """Missing readings and values longer than three intervals break the trace and are shaded; shorter ones do not."""
    times = [axis_of().start + 10 * n for n in range(8640) if not 3000 < n < 3600]
    values = [nan if 5000 < n < 5003 or 6000 < n < 6600 else 50.0 for n in range(len(times))]
    svg = chart_of(times, values)
    assert re.search(r'class="trace" d="([^"]*)"', svg)[1].count("M") == 3
    assert re.search(r'class="gaps" d="([^"]*)"', svg)[1].count("M") == 2


def test_the_moving_averages_are_a_second_trace():
    """Moving averages are a trace of their own, where a chart has them."""
    readings, averages = [[(axis_of().start, 1.0), (axis_of().start + 10, 3.0)]], [[(axis_of().start + 10, 2.0)]]
    svg = chart(readings, axis_of(), None, "a day", Marks(averages=averages))
    assert re.search(r'class="averages" d="([^"]*)"', svg)[1].endswith("l0 0")
    assert 'class="averages"' not in chart(readings, axis_of(), None, "a day")


def test_a_chart_without_values_has_no_labels_of_values():
    """Where no reading has a number, the axis of values is empty: from 0 to 1 would look like a measurement."""
    labels = re.compile(r'<svg class="values"[^>]*>(.*?)</svg>')
    assert labels.search(chart_of([axis_of().start], [nan], None))[1] == ""
    assert "<text" in labels.search(chart_of([axis_of().start], [7.0], None))[1]


def test_a_short_series_is_drawn_in_order_of_time():
    """Readings whose time stepped back, because the clock was set back, are drawn in order of their times."""
    assert split_at_gaps([30.0, 40.0, 10.0, 20.0, 90.0], [3.0, 4.0, 1.0, nan, 9.0], 10.0) == [
        [(10.0, 1.0), (30.0, 3.0), (40.0, 4.0)],
        [(90.0, 9.0)],
    ]


@pytest.mark.parametrize(
    "values",
    [[], [nan], [0.0], [1e300, -1e300], [5e-324, 0.0], [-1e-300, 1e-300], [7.0] * 9, [1e16, 1e16 + 2], [1e300]],
)
def test_any_values_can_be_drawn(values):
    """No reading, one reading, constants and the largest values analyzed have a chart with finite coordinates."""
    average = analyze_values([("", value) for value in values if isfinite(value)])["average"]
    svg = chart_of([axis_of().start + n for n in range(len(values))], values, average, 1e300, 'a "label"')
    assert 'aria-label="a &#34;label&#34;"' in svg
    assert "nan" not in svg
    assert "inf" not in svg


def labels_of(svg):
    """The labels of the axis of values, the highest one first."""
    labels = re.findall(r'y="(\d+)">([^<]+)<', re.search(r'class="values".*?</svg>', svg)[0])
    return [text for _, text in sorted(labels, key=lambda label: int(label[0]))]


def drawn(svg, name):
    """The path of a class, and the words below the chart."""
    path = re.search(rf'class="{name}"[^>]*', svg)
    words = re.search(r'<p class="beyond">(.*?)</p>', svg)
    return path and path[0], words and words[1].replace("\xa0", " ")


def test_the_scale_fits_the_readings_and_a_wider_band_is_named():
    """Readings from 14.5 to 15.5 fill the chart; the band of 12 to 18 is all of it, and the words below say so."""
    svg = chart_of([START, START + 10, START + 20], [14.5, 15.0, 15.5], 15.0, 0.2)
    assert labels_of(svg) == ["15.5", "15.0", "14.5"]
    assert drawn(svg, "band") == (f'class="band" width="2000" y="0" height="{HEIGHT}"/', "the band is 12.00 to 18.00")


def test_a_band_among_the_readings_is_drawn_and_not_named():
    """A band that is narrower than the readings is drawn in full; there is nothing to say below the chart."""
    path, words = drawn(chart_of([START, START + 10, START + 20], [0.0, 15.0, 30.0], 15.0, 0.2), "band")
    top, height = map(int, re.search(r'y="(\d+)" height="(\d+)"', path).groups())
    assert 0 < top < top + height < HEIGHT
    assert words is None


def test_one_outlier_is_in_the_chart():
    """The scale follows every reading: an outlier is drawn, and marked, where it is."""
    svg = chart_of([START + 10 * n for n in range(99)], [20.0] * 98 + [500.0], 25.0, 0.2)
    assert labels_of(svg) == ["400", "200", "0"]
    assert drawn(svg, "outside")[0].count("h0") == 1


def test_a_constant_series_has_labels_of_its_own_digits():
    """Equal readings lie in the middle of a chart whose labels are no finer than the sensor."""
    svg = chart_of([START, START + 10], [7.0, 7.0], 7.0)
    assert labels_of(svg) == ["7"]
    assert drawn(svg, "trace")[0].startswith(f'class="trace" d="M0 {HEIGHT // 2}l0 0')


def test_labels_have_the_digits_that_their_distance_needs():
    """Large readings that differ little have labels that differ, and small ones are not rounded to 0."""
    large = labels_of(chart_of([START, START + 10], [1234567.01, 1234567.05], None))
    assert large == ["1,234,567.05", "1,234,567.04", "1,234,567.03", "1,234,567.02", "1,234,567.01"]
    assert labels_of(chart_of([START, START + 10], [0.00012, 0.00014], None))[0] == "0.00014"


def test_limits_outside_of_the_chart_are_named_with_their_unit():
    """A limit above and one below the readings are words; their lines are not drawn."""
    svg = chart([[(START, 20.0), (START + 10, 21.0)]], axis_of(), None, "a day", Marks(limits=[80.0, 20.5, -5.5]), "°C")
    path, words = drawn(svg, "limit")
    assert (path, svg.count('class="limit"')) == (f'class="limit" d="M0 {HEIGHT // 2}H2000"/', 1)
    assert words == "limit 80 °C is above this chart; limit -5.5 °C is below this chart"


def test_where_most_readings_are_outside_none_is_marked():
    """Marks on most readings would hide the trace: there are none, though the band is drawn."""
    svg = chart_of([START + 10 * n for n in range(10)], [0.0, 100.0] * 5, 50.0)
    assert drawn(svg, "outside")[0] == 'class="outside" d=""/'
    assert drawn(svg, "band")[0]


def decoded(svg, name):
    """The times and values of a trace as values.js reads them from the attributes of a chart."""
    start, tick = (float(re.search(rf'data-{key}="([^"]*)"', svg)[1]) for key in ("start", "tick"))
    places, _, text = re.search(rf'data-{name}="([^"]*)"', svg)[1].partition(" ")
    time = value = 0
    segments = []
    for part in text.split(";"):
        numbers, segment = list(map(int, re.findall(r"-?\d+", part))), []
        for step, change in zip(numbers[::2], numbers[1::2], strict=True):
            time, value = time + step, value + change
            segment.append((start + time * tick, value / 10 ** int(places)))
        segments.append(segment)
    return segments


@given(
    points=st.dictionaries(st.integers(0, 86_399), st.integers(-(10**6), 10**6), min_size=1),
    places=st.integers(0, 4),
)
def test_the_attributes_of_a_chart_hold_its_readings(points, places):
    """Decoded, they are the readings to the second and to the digits of the sensor, split at the same gaps."""
    times, values = zip(*sorted(points.items()), strict=True)
    readings = split_at_gaps([START + time + 0.4 for time in times], [value / 10**places for value in values], 10.0)
    svg = chart(readings, axis_of(), None, "a day", Marks(averages=readings))
    for name in ("readings", "averages"):
        shown = decoded(svg, name)
        assert [[time for time, _ in part] for part in shown] == [[time - 0.4 for time, _ in part] for part in readings]
        digits = max(places, 2)
        assert [[round(value, digits) for _, value in part] for part in shown] == [
            [round(value, digits) for _, value in part] for part in readings
        ]


def test_a_short_chart_holds_milliseconds():
    """In a chart of ten minutes the times of the readings are exact to the millisecond."""
    axis = time_axis(START + 0.25, START + 600.25, BERLIN, 1.0)
    svg = chart([[(START + 0.25, 1.0), (START + 1.377, 2.0)]], axis, None, "ten minutes")
    assert decoded(svg, "readings") == [[(START + 0.25, 1.0), (pytest.approx(START + 1.377, abs=0.0011), 2.0)]]


@pytest.mark.parametrize("values", [[1e20], [1e-30], []])
def test_values_that_javascript_does_not_hold_are_left_out(values):
    """Such a chart is a picture without values under the pointer."""
    assert "data-readings" not in chart([[(START, value)] for value in values], axis_of(), None, "a day")

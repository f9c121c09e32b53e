"""Pages on demand of a real process: made by a child that ends with it, and what there is no page of."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen
from zoneinfo import ZoneInfo

import pytest

from etl.readings.lines import raw_line
from etl.readings.times import rfc3339
from tests.support.process import HANG_S, Site, closed_day, end, not_refused, until


@pytest.fixture
def site(tmp_path):
    """A site whose folder's day is that of UTC."""
    built = Site(tmp_path)
    built.save(timezone="UTC", output={"stdout": []}, units={"temperature": "°C"})
    return built


def page(site: Site, path: str, accept: str = "text/html") -> tuple[int, str]:
    """Status and body of an answer, errors too."""
    request = Request(f"http://127.0.0.1:{site.port}{path}", headers={"Accept": accept})
    try:
        with urlopen(request, timeout=HANG_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def write_raw(site: Site, lines: list[bytes], day: str = "") -> Path:
    """Write lines into the raw log of a day, today by default."""
    path = site.root / "output" / "raw" / f"{day or rfc3339(time.time())[:10]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def children_of(process) -> list[str]:
    """The pids of the children that `etl run` has."""
    tasks = Path(f"/proc/{process.pid}/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def is_gone(pid: str) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_fault_of_today_is_on_the_page_of_today(site):
    """A machine that was stuck an hour ago is an incident of the day so far, on its page and on the machine's page."""
    now = time.time()
    start = now - 4 * 3600
    lines = []
    for place in range(int((now - start) / 10)):
        at = start + 10 * place
        stuck = now - 5400 < at < now - 1800
        reading = {"id": 7, "temperature": 65.4 if stuck else 65 + place * 7 % 13 / 10, "fan_speed": 800 + place % 9}
        lines.append(raw_line(reading, "dryer", at))
    hours = 12 - time.gmtime(now).tm_hour  # a zone in which it is noon
    zone = f"Etc/GMT{-hours:+d}" if hours else "UTC"
    write_raw(site, lines, f"{datetime.fromtimestamp(now, ZoneInfo(zone)):%Y-%m-%d}")
    site.save(timezone=zone, interval="10s", report={"detectors": ["telemetry"]})
    with site.running() as process:
        until(lambda: not_refused(site))
        status, today = page(site, "/reports/today")
        assert (status, "1 incident (dryer temperature)" in today) == (200, True)
        report = json.loads(page(site, "/reports/today", "application/json")[1])
        (dryer,) = (machine for machine in report["machines"] if machine["source"] == "dryer")
        (incident,) = dryer["parameters"]["temperature"]["incidents"]
        status, machine = page(site, "/machines/day?source=dryer&id=7")
        assert (status, incident["why"] in machine, "°C" in machine) == (200, True, True)
        charts = site.ask("/console/machine?source=dryer&id=7&hours=24")["charts"]
        assert charts.keys() == {"temperature", "speed"}
        end(process)


def test_days_without_readings_have_no_page(site):
    """Without a reading of today, and of days that are deleted or never were, the answer says what there is."""
    day = closed_day(site)
    site.save(sources=[{"name": "none", "file": "missing.json"}])
    with site.running() as process:
        until(lambda: not_refused(site) and site.ask("/reports") == [day])
        assert page(site, "/reports/today") == page(site, "/reports/today", "application/json")
        status, text = page(site, "/reports/today")
        assert (status, f"the newest day is {day}" in text) == (404, True)
        assert page(site, f"/machines/day?source=m&date={day}")[0] == 200
        assert page(site, "/machines/day?source=m")[0] == 404
        assert f"there are {day} to {day}" in page(site, "/machines/day?source=m&date=2026-01-04")[1]
        assert page(site, f"/machines/day?source={quote('m<b>')}&date={day}")[0] == 404
        (site.root / "output" / "raw" / f"{day}.jsonl").unlink()
        status, text = page(site, f"/machines/day?source=m&date={day}")
        assert (status, "output.keep_days" in text) == (404, True)
        assert page(site, f"/reports/{day}")[0] == 200
        end(process)


def test_the_summaries_follow_the_reports(site):
    """`/console/reports` has each report, also one that was just added, changed or deleted."""
    day = closed_day(site)
    with site.running() as process:
        until(lambda: not_refused(site) and site.ask("/reports") == [day])
        (summary,) = site.ask("/console/reports")["reports"]
        assert (summary["date"], summary["readings"], summary["anomalies"]) == (day, 30, 1)
        reports = site.root / "output" / "reports"
        (reports / "2026-01-06.json").write_text('{"machines":[]}')
        assert [each["date"] for each in site.ask("/console/reports")["reports"]] == ["2026-01-06", day]
        (reports / f"{day}.json").write_text("{")
        assert site.ask("/console/reports")["reports"][1] == {"date": day}
        (reports / f"{day}.json").unlink()
        assert len(site.ask("/console/reports")["reports"]) == 1
        end(process)


def test_a_page_of_an_earlier_version_is_served_as_it_is(site):
    """A page without the place for links is not changed; a report that is written now gets them when it is served."""
    day = closed_day(site)
    with site.running() as process:
        until(lambda: not_refused(site) and site.ask("/reports") == [day])
        stored = site.root / "output" / "reports" / f"{day}.html"
        stored.write_text("<!DOCTYPE html><title>of version 0.1</title>")
        assert page(site, f"/reports/{day}") == (200, stored.read_text())
        stored.write_text("<!DOCTYPE html><header><!-- links --></header>")
        (stored.parent / "2026-01-03.json").write_text("{}")
        text = page(site, f"/reports/{day}")[1]
        assert 'href="2026-01-03"' in text
        assert 'href="today"' in text
        end(process)


@pytest.fixture
def busy(site):
    """A site whose day is large: a child works on it until it is ended."""
    lines = [raw_line({"id": n, "temperature": n % 100}, "m", time.time() - 9) for n in range(2000)]
    write_raw(site, lines * 500)
    return site


def wait_for_child(site: Site, process, pool: ThreadPoolExecutor) -> str:
    """Ask for the report of today; the pid of the child that makes it, once it works at the lowest priority."""
    pool.submit(page, site, "/reports/today")
    until(lambda: children_of(process))
    (pid,) = children_of(process)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16] == "19")
    return pid


def test_a_child_ends_with_its_parent_and_at_a_stop(busy):
    """A page that is being made ends with a killed process, and delays no stop."""
    with ThreadPoolExecutor(8) as pool:
        with busy.running() as process:
            until(lambda: not_refused(busy))
            pid = wait_for_child(busy, process, pool)
            process.kill()
            until(lambda: is_gone(pid))
        with busy.running() as process:
            until(lambda: not_refused(busy))
            pid = wait_for_child(busy, process, pool)
            end(process, signal.SIGTERM)
            until(lambda: is_gone(pid))


def test_a_killed_child_is_an_error_and_no_thread_is_lost(busy):
    """Requests that must wait leave threads for others; a child that is killed is a 503 for those that wait."""
    with busy.running() as process, ThreadPoolExecutor(8) as pool:
        until(lambda: not_refused(busy))
        pages = [pool.submit(page, busy, "/reports/today") for _ in range(8)]
        until(lambda: children_of(process))
        (pid,) = children_of(process)
        until(lambda: sum(each.done() for each in pages) == 5)
        assert busy.ask("/healthz") == {"status": "ok"}
        assert page(busy, "/machines/day?source=none")[0] == 404  # machines have a child of their own
        os.kill(int(pid), signal.SIGKILL)
        answers = [each.result() for each in pages]
        assert {status for status, _ in answers} == {503}
        assert sum("still being made" in text for _, text in answers) == 5
        assert sum("was killed" in text for _, text in answers) == 3
        until(lambda: not children_of(process))
        end(process)


def test_a_long_report_takes_no_memory_of_the_process(site):
    """A report of 100 MB is sent as its client takes it."""
    site.save(sources=[{"name": "none", "file": "missing.json"}])
    path = site.root / "output" / "reports" / "2026-11-22.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[" + b" " * (100 << 20) + b"]")

    def peak_kib(process) -> int:
        return int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0])

    with site.running() as process:
        until(lambda: not_refused(site))
        before = peak_kib(process)
        assert len(page(site, "/reports/2026-11-22", "application/json")[1]) == (100 << 20) + 2
        assert peak_kib(process) - before < 20 << 10
        end(process)

"""The typed config: every key with its type, range and default, and a hint for each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from etl.config.addresses import PROXY_HINT, URL_HINT
from etl.config.local_zone import local_zone
from etl.config.sources.base import Duration
from etl.config.sources.kinds import KINDS, Sources
from etl.readings.records import DetectorName
from etl.readings.text import alternatives

DEFAULT_TIMEOUT_S = 5.0
MAX_TIMEOUT_INTERVALS = 0.8
"""A poll must end before the source's next turn; the rest of the interval is for parsing and writing."""
MAX_RECEIVERS = 50
"""Addresses that are notified, each by a thread of its own."""


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where lines are written."""

    folder: Annotated[str, Meta(min_length=1)] = "output"
    stdout: tuple[Literal["raw", "averages", "alarms"], ...] = ("raw", "averages")
    fsync: Literal["always", "10s", "never"] = "always"
    keep_days: Annotated[int, Meta(ge=1)] | None = None
    compress: Literal["gzip"] | None = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a day is reported, what counts as an anomaly or an incident, and which processes compute it."""

    at: Annotated[str, Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")] = "00:05"
    threshold: Annotated[float, Meta(ge=0)] = 0.2
    workers: Annotated[int, Meta(ge=1, le=1000)] = 1
    cluster: str | None = None
    detectors: tuple[DetectorName, ...] = ("telemetry", "status_band")


SiteName = Annotated[
    str, Meta(pattern=r"\A([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?\Z", max_length=260)
]
"""A host as in a URL, with the port if it is not the default of http or https."""


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The simulated machines and the console."""

    serve: bool = True
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 5000
    machines: Annotated[int, Meta(ge=1, le=10_000)] = 1
    token: Annotated[str, Meta(pattern=r"\A[!-~]+\Z")] = ""
    names: tuple[SiteName, ...] = ()
    proxy: Annotated[str, Meta(min_length=1)] | None = None

    @property
    def address(self) -> str:
        """Where it is served, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """While the average of a parameter is beyond a limit, or a machine has a status, an alarm is raised."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    parameter: str | None = None
    above: float | None = None
    below: float | None = None
    deadband: Annotated[float, Meta(ge=0)] = 0.0
    hold: Annotated[Duration, Meta(extra_json_schema={"default": "0s"})] = msgspec.field(
        name="for", default_factory=lambda: Duration(0)
    )
    status: str | None = None
    sources: Annotated[str, Meta(min_length=1)] = "*"


class Notify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is notified of alarms, of sources that go down or recover, of a full disk, and of reports."""

    url: str | None = None
    urls: Annotated[tuple[str, ...], Meta(max_length=MAX_RECEIVERS)] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of all receivers, each once."""
        return tuple(dict.fromkeys(self.urls if self.url is None else (self.url,)))


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of config.yaml, with its defaults."""

    sources: Sources
    interval: Annotated[Duration, Meta(extra_json_schema={"default": "10s"})] = msgspec.field(
        default_factory=lambda: Duration(10)
    )
    transport: Literal["requests", "curl"] = "requests"
    shard: str | None = None
    window: Annotated[int, Meta(ge=1, le=1000)] = 5
    timezone: str = "local"
    parameters: Annotated[dict[str, Annotated[str, Meta(min_length=1)]], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: {"temperature": "temperature", "speed": "fan_speed"}
    )
    units: dict[str, Annotated[str, Meta(min_length=1, max_length=16)]] = {}
    alarms: tuple[Alarm, ...] = ()
    output: Output = Output()
    report: Report = Report()
    api: Api = Api()
    notify: Notify = Notify()

    @property
    def zone_name(self) -> str:
        """The IANA name of `timezone`; `local` is the zone of this machine."""
        return local_zone() if self.timezone == "local" else self.timezone

    @property
    def max_timeout(self) -> float:
        """The longest deadline of a poll in seconds."""
        return MAX_TIMEOUT_INTERVALS * self.interval


HINTS = {
    "interval": "write a number and a unit, such as 10s; from 100ms to 24h",
    "window": "write how many readings an average spans, 1 to 1000",
    "timezone": "write local, or a zone such as Europe/Berlin or UTC",
    "sources": "write sources: and below it, for each source, - name: machine-1 with "
    + alternatives(f"{key}:" for key in KINDS),
    "url": URL_HINT,
    "transport": "write requests or curl",
    "shard": "write the number of this process, from 0, and how many there are, such as 0/8",
    "parameters": "write a name and the field of the reading it averages, such as speed: fan_speed",
    "units": "write a name from parameters and its unit, 1 to 16 printable characters, such as temperature: °C",
    "alarms": "write alarms: and below it, for each alarm, - name: hot with parameter: and above:, or with status:",
    "alarms.name": "write 1 to 200 printable characters, different for each alarm",
    "parameter": "write a name from parameters, whose moving average is compared",
    "above": "write a number without quotes: the alarm is raised while the average is above it",
    "below": "write a number without quotes: the alarm is raised while the average is below it",
    "deadband": "write by how much the average must be back inside to end the alarm, 0 or more, without quotes",
    "for": "write how long the condition must hold, such as 30s; at most 1h",
    "status": "write a status of the reading as in the log, such as ERROR",
    "alarms.sources": 'write a shell pattern over the names of sources in quotes, such as "press-*"',
    "output": "write folder: and stdout: below it",
    "folder": "write a path, absolute or from the config's folder",
    "stdout": "write a list of raw, averages and alarms, some of them or none: [raw, averages]",
    "fsync": "write always, 10s or never",
    "keep_days": "write how many days to keep, 1 or more, or leave it out to keep all",
    "compress": "write gzip, or leave it out",
    "report": "write at: and threshold: below it",
    "at": 'write a local time in quotes, such as "00:05"',
    "threshold": "write a number without quotes, 0 or more; 0.2 is 20 %",
    "workers": "write how many processes make the report, 1 to 1000",
    "cluster": "write the address of a dask scheduler, such as tcp://10.0.0.5:8786",
    "detectors": "write a list of telemetry and status_band, one of them or none: [telemetry, status_band]",
    "api": "write serve:, host:, port: and machines: below it",
    "serve": "write true or false without quotes",
    "host": "write an address to listen on, such as 127.0.0.1",
    "port": "write a port without quotes, 1 to 65535",
    "machines": "write how many machines to simulate, 1 to 10000",
    "token": 'write "${API_TOKEN}" with its quotes, and set that variable to a long random word',
    "names": 'write hosts as in a URL, without http:// or wildcards: [telemetry.example.org, "[2001:db8::1]:8443"]',
    "proxy": PROXY_HINT,
    "notify": "write urls: below it",
    "urls": 'write a list of https:// addresses, or of others that Apprise knows: ["https://chat.example/hook"]',
}
"""What to write, by key: the hint behind a problem, and the key's description in the JSON Schema. Sources and what is
in them have their own."""
SECRETS = {"token", "urls", *chain.from_iterable(kind.secrets for kind in KINDS.values())}
"""Keys whose values are not shown."""


def hint_of(group: type[msgspec.Struct], key: str) -> str:
    """What to write for a key of a group; keys of alarms that others have too have hints of their own."""
    hints: Mapping[str, str] = getattr(group, "hints", HINTS)
    return hints.get(f"alarms.{key}" if group is Alarm else key) or hints[key]


def install_hint(extra: str) -> str:
    """How to install an extra: from the clone, as no index has this program."""
    return f"in the folder of the clone run pip install '.[{extra}]' with the pip that installed etl"

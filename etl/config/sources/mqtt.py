"""`mqtt`: a topic of a broker, whose messages are readings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec import Meta

from etl.config.addresses import is_url
from etl.config.sources.base import JsonSource, Mistake

MAX_TOPIC_BYTES = 65_535
"""The longest text that the protocol can send."""
PORTS = {"mqtt": 1883, "mqtts": 8883}
_HINT = "write mqtt://broker/topic, or mqtts:// with TLS, such as mqtt://broker/plant/+/telemetry"
_ID = re.compile(r"topic(?:\[(-?[0-9]{1,3})\])?")
_ADDRESS = re.compile(r"(mqtts?)://([^/]*)/(.+)", re.IGNORECASE)
_LOGIN = "write it into mqtt: mqtt://user:${PASSWORD}@broker/topic"


class Target(NamedTuple):
    """The parts of an address."""

    host: str
    port: int
    is_secure: bool
    user: str | None
    password: str | None
    topic: str


class MqttSource(JsonSource, frozen=True, kw_only=True):
    """Machines that publish their readings to a broker."""

    key = "mqtt"
    label = "an mqtt:// address"
    no_answer = "connected, but no message came yet"
    hints = JsonSource.hints | {
        "mqtt": _HINT,
        "client_id": "write the name under which the broker keeps messages for this source, another for each source",
        "ca_file": "write the path of a PEM file, absolute or from the config's folder",
        "id": "write id: topic, id: topic[1] for one level of the topic, counted from 0, or id: key beside records",
    }
    unknown_key_hints: ClassVar[dict[str, str]] = {
        "topics?|filter|subscribe": "write it behind the broker in mqtt: mqtt://broker/plant/+/telemetry",
        "host(name)?|port|broker|server": "write it into mqtt: mqtt://broker:1883/topic",
        "user(_?name)?|pass(word|wd)?|login|auth": _LOGIN,
        "qos|clean_session|clean_start|session": "leave it out: each source has a persistent session with QoS 1",
        "verify(_ssl|_tls)?|insecure(_skip_verify)?|ssl|tls|ca(cert|_cert|_bundle)?|cert(ificate)?": (
            "write mqtts://; certificates are always verified: set ca_file to a PEM file with the one to trust"
        ),
    }
    schemes = ("mqtt", "mqtts", "tcp", "ssl")  # other programs write the last two
    templates = ("mqtt", "client_id")
    paths = ("ca_file",)
    has_deadline = False
    package = "paho"
    extra = "mqtt"

    mqtt: str
    client_id: Annotated[str, Meta(max_length=200)] = ""
    ca_file: Annotated[str, Meta(min_length=1)] | None = None
    id: Annotated[str, Meta(pattern=r"^(key|topic(\[-?[0-9]{1,3}\])?)$")] | None = None  # type: ignore[assignment]

    @property
    def target(self) -> Target:
        """The parts of the address, which was checked before."""
        scheme, netloc, topic = _parts(self.mqtt)
        parts = urlsplit(f"//{netloc}")
        user, password = (unquote(text) if text is not None else None for text in (parts.username, parts.password))
        return Target(parts.hostname or "", parts.port or PORTS[scheme], scheme == "mqtts", user, password, topic)

    @property
    def session(self) -> str:
        """The client id."""
        return self.client_id or f"etl-{self.name}"

    @property
    def always_sends(self) -> bool:
        """Whether each poll without failure has a reading: messages come when the machines send them."""
        return False

    @property
    def advice(self) -> dict[str, str]:
        """What to do about a failed poll."""
        return {
            "login": f"compare user and password with those of the broker; {_LOGIN}",
            "taken_over": "give each source, and each process that reads it, a client_id of its own",
            "subscription": "let the broker's access list permit this user to read the topic",
            "reset": "see the broker's log: does it speak MQTT on this port, and TLS only with mqtts://?",
            "protocol": "does the broker speak MQTT on this port?",
        }

    def id_of(self, topic: str) -> str | None:
        """The id that the readings of a topic get; None if they keep their own, or the topic has no such level."""
        match = _ID.fullmatch(self.id or "")
        if match is None or match[1] is None:
            return topic if match else None
        levels, level = topic.split("/"), int(match[1])
        return levels[level] if -len(levels) <= level < len(levels) else None

    def mistakes(self) -> Iterator[Mistake]:
        """Why the source cannot be polled: its address, its topic, its client id."""
        yield from self.address_mistakes(mqtt_problem)
        if not self.client_id.isprintable():
            yield Mistake(("client_id",), "client_id has a character that cannot be printed")
        if self.count and self.client_id and "{n}" not in self.client_id:
            message = f"client_id is the same for {self.count:,} sources, which would disconnect one another"
            yield Mistake(("client_id",), message, "write {n} into it, or leave it out")
        if mqtt_problem(self.mqtt.replace("{n}", "1")) is None:
            yield from self._level_mistakes()

    def _level_mistakes(self) -> Iterator[Mistake]:
        """An `id` that names a level which no topic of the source has."""
        match = _ID.fullmatch(self.id or "")
        levels = subscribed(self.target.topic).split("/")
        if match and match[1] and levels[-1] != "#" and not -len(levels) <= int(match[1]) < len(levels):
            hint = f"write topic[0] to topic[{len(levels) - 1}]"
            yield Mistake(("id",), f"id names level {match[1]}, but the topic has {len(levels)}", hint)

    def warnings(self, folder: Path, output: Path) -> Iterator[Mistake]:
        """What `etl check` warns of: certificates that are not used."""
        del folder, output
        if self.ca_file and self.mqtt.lower().startswith("mqtt:"):
            yield Mistake(
                ("ca_file",), "ca_file has no effect on an mqtt:// address", "write mqtts://, or leave it out"
            )


def subscribed(topic: str) -> str:
    """The filter that topics match: of a shared subscription, $share/GROUP/FILTER, its last part."""
    return topic.split("/", 2)[2] if topic.startswith("$share/") and topic.count("/") > 1 else topic


def mqtt_problem(address: str) -> tuple[str, str] | None:
    """Why an address cannot be subscribed to, and what to write instead; None if it can."""
    if not address.isprintable():
        return "it has a control character", _HINT
    match = _ADDRESS.fullmatch(address)
    if match is None:
        if re.match(r"mqtts?://", address, re.IGNORECASE):
            return "it has no topic", "write it behind the broker, such as mqtt://broker/plant/+/telemetry"
        return "it has no mqtt:// or mqtts://", _HINT
    _, netloc, topic = _parts(address)
    if not is_url(f"http://{netloc}/"):
        return (
            "its broker cannot be read",
            "write a host and a port from 1 to 65535, and in a user or password %2F for /, %3A for :, %40 for @",
        )
    return _topic_problem(topic)


def _topic_problem(topic: str) -> tuple[str, str] | None:
    levels = topic.split("/")
    if len(topic.encode()) > MAX_TOPIC_BYTES:
        return f"its topic is longer than {MAX_TOPIC_BYTES:,} bytes", "subscribe to a shorter filter with + or #"
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return "in its topic # is not the whole last level", "write # alone at the end, as in plant/#"
    if any("+" in level and level != "+" for level in levels):
        return "in its topic + is not a whole level", "write + alone between two /, as in plant/+/telemetry"
    if levels[0] == "$share" and (len(levels) < 3 or not levels[1] or re.search(r"[+#]", levels[1])):
        return "its shared subscription has no group or no filter", "write $share/GROUP/plant/+/telemetry"
    return None


def _parts(address: str) -> tuple[str, str, str]:
    """Scheme, host with port and login, and topic of an address that has them all."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError("not an mqtt:// address with a topic")
    return match[1].lower(), match[2], match[3]

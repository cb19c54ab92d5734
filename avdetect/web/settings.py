"""What an operator decides about the server; imports nothing heavy, since `avdetect serve --help` shows it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from avdetect.errors import ConfigError

SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Limits:
    """What one upload, one browser and the whole server may take."""

    upload_bytes: int = 500_000_000
    duration_s: float = 600.0
    pixels: int = 36_000_000  # of one picture or frame: 8K video is 33 million
    time_s: float = 600.0  # one analysis, from start to end
    memory_bytes: int = 4_000_000_000  # address space of an analysis beyond that of the loaded networks
    jobs_per_client: int = 20  # waiting or running, of one browser
    queue: int = 200  # waiting or running, of all
    uploads_at_once: int = 32
    idle_upload_s: float = 30.0  # an upload that sends nothing for so long is broken off
    free_disk_bytes: int = 1_000_000_000  # left free; uploads are refused before


@dataclass(frozen=True)
class Settings:
    """Where the server listens, where it keeps its files, which detector judges.

    token: who does not send it sees nothing; hosts: names under which the server is reached, beside loopback and IP
    addresses. Raises ConfigError where the server would be open to others by accident.
    """

    data: Path
    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    without_token: bool = False
    hosts: tuple[str, ...] = ()
    workers: int = 1
    keep_uploads_s: float = 3600.0  # after the analysis
    keep_results_s: float = 30 * 86400.0
    samples: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"the token has {len(self.token)} characters, which can be guessed: give {SHORTEST_TOKEN} or more"
            )
        if not is_loopback(self.host) and self.token is None and not self.without_token:
            raise ConfigError(
                f"--host {self.host} would let others on the network use this server: set a token in "
                "$AVDETECT_TOKEN, or say --without-token if everybody may"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

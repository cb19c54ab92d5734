"""The application behind uvicorn."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import platformdirs
import uvicorn

from avdetect.errors import ConfigError
from avdetect.web.app import create_app
from avdetect.web.settings import Settings

_GRACE_S = 3  # for answers under way when the server is told to stop
_BACKLOG = 256


def data_folder() -> Path:
    """Where jobs are kept unless told otherwise."""
    return platformdirs.user_data_path("avdetect") / "web"


def run(settings: Settings) -> None:
    """Serve until interrupted. Raises ConfigError where the address cannot be listened on."""
    listener = _listen(settings)
    logging.basicConfig(level=logging.WARNING, format="avdetect: %(message)s", stream=sys.stderr)
    app = create_app(settings)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(
        f"avdetect: open http://{shown}:{settings.port}/ (files in {settings.data}; stop with Ctrl-C)",
        file=sys.stderr,
    )
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, timeout_graceful_shutdown=_GRACE_S, proxy_headers=False,
        lifespan="on",
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    """Before anything else is started: a taken port must not cost the other server its data folder's lock."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose another --port, or --host"
        ) from error
    listener.listen(_BACKLOG)
    return listener

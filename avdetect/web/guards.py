"""What every request passes before anything looks at it: the server's name, the sender's site, the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avdetect.web.settings import Settings

CLIENT_COOKIE, TOKEN_COOKIE = "avdetect_client", "avdetect_token"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # `no-referrer` would make browsers send `Origin: null` with the page's own forms
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_CLIENT = re.compile(r"[0-9a-f]{32}")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OPEN_TO_ALL = ("/login", "/static/")  # without the token
_MONTH_S = 30 * 86400


class Guard:
    """ASGI middleware. Answers 421 for a foreign Host, 403 for a request that another site caused, 401 without the
    token; gives each browser a random cookie, by which it finds its own jobs again."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        client = connection.cookies.get(CLIENT_COOKIE, "")
        known = bool(_CLIENT.fullmatch(client))
        scope["state"] = {
            **scope.get("state", {}),
            "client": client if known else secrets.token_hex(16),
            "known": known,
        }
        refusal = self._refusal(connection)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not known and refusal is None and not scope["path"].startswith("/static/"):
                    carrier = Response()
                    set_cookie(carrier, scope, CLIENT_COOKIE, scope["state"]["client"])
                    headers.append("set-cookie", carrier.headers["set-cookie"])
            await send(message)

        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, connection: HTTPConnection) -> Response | None:
        scope, headers = connection.scope, connection.headers
        if not self._is_ours(headers.get("host", "")):
            return _told(
                421,
                "this server does not answer under that name: use its address, or start it with --allow-host NAME",
            )
        if scope["method"] not in _SAFE_METHODS and not same_site(headers):
            return _told(403, "the request was caused by another web site: open this server's own page")
        if self._settings.token is None or scope["path"].startswith(_OPEN_TO_ALL):
            return None
        if has_token(connection, self._settings.token):
            return None
        if scope["path"].startswith("/api/"):
            return _told(
                401, "the server asks for its token: send it as `Authorization: Bearer TOKEN`",
                {"www-authenticate": "Bearer"},
            )  # fmt: skip
        return RedirectResponse("/login", 303)

    def _is_ours(self, host: str) -> bool:
        """Addresses, `localhost` and the names given: a foreign name means that somebody's DNS points here."""
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        if name in (
            "localhost",
            self._settings.host.lower(),
            *(known.lower() for known in self._settings.hosts),
        ):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def same_site(headers: Headers) -> bool:
    """Whether a request comes from the server's own page, or from a program and not from a browser."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()


def has_token(connection: HTTPConnection, token: str) -> bool:
    kind, _, given = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and _same(given.strip(), token):
        return True
    return _same(connection.cookies.get(TOKEN_COOKIE, ""), token_cookie(token))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def is_token(given: str, token: str) -> bool:
    return _same(given, token)


def token_cookie(token: str) -> str:
    """What the browser keeps: not the token itself."""
    return hmac.new(token.encode(), b"avdetect browser", hashlib.sha256).hexdigest()


def set_cookie(response: Response, scope: Scope, name: str, value: str) -> None:
    response.set_cookie(
        name, value, max_age=_MONTH_S, httponly=True, samesite="strict", secure=scope["scheme"] == "https"
    )


def _told(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": sentence}, status, headers)

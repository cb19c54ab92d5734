"""Receiving files: streamed to disk as they come, refused as early as something is wrong with them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from avdetect.errors import AvdetectError
from avdetect.media.files import ACCEPTED
from avdetect.web.kinds import HEAD_BYTES, describe, is_media
from avdetect.web.settings import Limits
from avdetect.web.store import JobStore

LONGEST_NAME = 120
_BLOCK = 2**20
_DRAIN_S = 1.0  # a refused client is listened to a little longer, so that it reads the answer
_MULTIPART_EXTRA = 100_000  # boundaries and headers around the files
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class Refused(AvdetectError):
    """An upload that is not taken; `status` is that of HTTP."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class Upload:
    path: Path
    name: str


def display_name(text: str) -> str:
    """A file's name for people, never for the disk: no folders, nothing unprintable, not endless."""
    name = _UNPRINTABLE.sub("", re.split(r"[/\\]", text)[-1]).strip()
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 20]}…{name[-16:]}"
    return name if name.strip(".") else "unnamed file"


@dataclass
class _File:
    """A file being received: checked by kind at its beginning, by size and room all along."""

    upload: Upload
    limits: Limits
    stream: BinaryIO = field(init=False)
    size: int = 0
    head: bytes = b""
    known: bool = False
    pending: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.stream = open(self.upload.path, "wb")

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limits.upload_bytes:
            raise too_large(self.limits)
        if not self.known:
            self.head += data[: HEAD_BYTES - len(self.head)]
            if len(self.head) == HEAD_BYTES:
                self._check_kind()
        self.pending += data

    def _check_kind(self) -> None:
        self.known = True
        if not is_media(self.head):
            raise Refused(
                415, f"the file {self.upload.name} is {describe(self.head)}: give a {ACCEPTED} file"
            )

    def flush(self) -> None:
        if shutil.disk_usage(self.upload.path.parent).free < self.limits.free_disk_bytes + len(self.pending):
            raise Refused(507, "the server's disk is nearly full: tell its operator, or try again later")
        self.stream.write(self.pending)
        self.pending.clear()

    def finish(self) -> None:
        if self.size == 0:
            raise Refused(400, f"the file {self.upload.name} is empty (0 bytes): choose another file")
        if not self.known:
            self._check_kind()
        self.flush()
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()


def too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"the file is larger than {limits.upload_bytes / 1e6:.4g} MB, the limit: cut or compress it"
    )


class Receiver:
    """Takes the files of requests into the store's folder for incoming ones, a bounded number at once."""

    def __init__(self, store: JobStore, limits: Limits):
        self._store, self._limits = store, limits
        self._under_way = 0

    async def receive(self, request: Request, name: str | None, most: int = 1) -> list[Upload]:
        """The file of a raw body, or the parts named `file` of a form, at most `most`.

        Files that are returned are whole and on disk. Raises Refused, and leaves nothing behind then.
        """
        if self._under_way >= self._limits.uploads_at_once:
            raise Refused(429, "too many uploads are under way: try again in a moment")
        self._under_way += 1
        files: list[_File] = []
        chunks = self._chunks(request)
        try:
            self._check_announced(request, most)
            kind, options = parse_options_header(request.headers.get("content-type", ""))
            if kind == b"multipart/form-data":
                await self._form(chunks, options.get(b"boundary", b""), files, most)
            else:
                files.append(self._open(display_name(name or "")))
                async for data in chunks:
                    await _store(files[-1], data)
            if not files:
                raise Refused(400, "no file came with the request: choose one")
            for file in files:
                await asyncio.to_thread(file.finish)
        except BaseException as error:
            for file in files:
                file.stream.close()
                file.upload.path.unlink(missing_ok=True)
            if isinstance(error, Refused):
                await _drain(chunks)
            if isinstance(error, ClientDisconnect):
                raise Refused(400, "the upload was broken off") from error
            raise
        finally:
            self._under_way -= 1
        return [file.upload for file in files]

    def _check_announced(self, request: Request, most: int) -> None:
        announced = request.headers.get("content-length", "")
        allowed = most * self._limits.upload_bytes + _MULTIPART_EXTRA
        if announced.isdecimal() and int(announced) > allowed:
            raise too_large(self._limits)

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        stream = request.stream()
        while True:
            try:
                data = await asyncio.wait_for(anext(stream), self._limits.idle_upload_s)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Refused(408, "nothing came for too long: send the file again") from None
            yield data

    def _open(self, name: str) -> _File:
        return _File(Upload(self._store.incoming(), name), self._limits)

    async def _form(
        self, chunks: AsyncIterator[bytes], boundary: bytes, files: list[_File], most: int
    ) -> None:
        parts = _Parts()
        try:
            parser = MultipartParser(boundary, parts.callbacks())
            async for data in chunks:
                parser.write(data)
                for event, value in parts.drain():
                    if event == "file":
                        if len(files) >= most:
                            raise Refused(400, f"at most {most} file{'s' * (most > 1)} can be sent at once")
                        files.append(self._open(display_name(value)))
                    else:
                        await _store(files[-1], value)
            parser.finalize()
        except (MultipartParseError, ValueError) as error:
            raise Refused(400, f"the form cannot be read ({error}): send the file again") from error
        if not parts.ended:
            raise Refused(400, "the form breaks off before its end: send the file again")


async def _store(file: _File, data: bytes) -> None:
    file.take(data)
    if len(file.pending) >= _BLOCK:
        await asyncio.to_thread(file.flush)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    deadline = time.monotonic() + _DRAIN_S
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in chunks:
                if time.monotonic() > deadline:
                    return
    except (TimeoutError, Refused, ClientDisconnect):
        return


class _Parts:
    """What the parser's callbacks say, as a list of ("file", name) and ("data", bytes) of the parts named `file`."""

    def __init__(self) -> None:
        self.ended = False
        self._events: list[tuple[str, str | bytes]] = []
        self._field, self._value, self._disposition = b"", b"", b""
        self._wanted = False

    def callbacks(self) -> dict:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_end": self._end,
        }

    def drain(self) -> list[tuple[str, str | bytes]]:
        events, self._events = self._events, []
        return events

    def _begin(self) -> None:
        self._field, self._value, self._disposition, self._wanted = b"", b"", b"", False

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"filename", b"")
        # a form sends an empty, nameless part where no file was chosen
        self._wanted = options.get(b"name") == b"file" and name != b""
        if self._wanted:
            self._events.append(("file", name.decode("utf-8", "replace")))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._events.append(("data", data[start:end]))

    def _end(self) -> None:
        self.ended = True

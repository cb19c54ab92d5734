"""One file over HTTP, continued where an earlier attempt stopped."""

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from avdetect.errors import WeightsError

CHUNK = 1 << 16
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not grow so large",
}
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}  # HTTP states that pass

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where known


class _Broken(Exception):
    """The attempt failed in a way that the next one may not."""


@dataclass
class ResumingDownloader:
    """A downloader for pooch: fetches into `part`, which stays when the connection breaks, then hands it over.

    timeout_s: without a connection or a byte for so long an attempt is given up; the next one, after `wait_s`
    (doubled each time), asks for the rest only. Raises `WeightsError` with the reason.
    """

    part: Path
    progress: Progress | None = None
    timeout_s: float = 30.0
    attempts: int = 4
    wait_s: float = 1.0
    resumed: bool = False  # whether bytes of an earlier call are in the file

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """What pooch calls: the content of `url` goes to `output_file`, in the same folder as `part`."""
        self.resumed = self.part.exists() and self.part.stat().st_size > 0
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.wait_s * 2 ** (attempt - 1))
            try:
                self._attempt(url)
                os.replace(self.part, output_file)
                return
            except _Broken as error:
                reason = str(error)
            except requests.Timeout:
                reason = f"the server was silent for {self.timeout_s:g} s"
            except requests.ConnectionError as error:
                reason = f"no connection to the server ({_root_cause(error)})"
            except requests.RequestException as error:
                raise WeightsError(f"{url} cannot be fetched: {_root_cause(error)}.") from error
            except OSError as error:
                self.part.unlink(missing_ok=True)  # a failed download does not leave the disk full
                raise not_written(self.part.parent, error) from error
        kept = self.part.stat().st_size if self.part.exists() else 0
        rest = f"; {kept} bytes are kept, pull again to fetch the rest" if kept else "; try again later"
        raise WeightsError(f"{url} could not be fetched in {self.attempts} attempts: {reason}{rest}.")

    def _attempt(self, url: str) -> None:
        start = self.part.stat().st_size if self.part.exists() else 0
        # identity: a compressed transfer could be neither measured nor continued
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout_s) as response:
            if response.status_code == 416:  # nothing after `start`: the part is complete or of another file
                if _total(response) == start:
                    return
                self.part.unlink()
                raise _Broken("the server's file is shorter than the part fetched earlier")
            if response.status_code in WORTH_ANOTHER_TRY:
                raise _Broken(f"the server answered {response.status_code} {response.reason}")
            if response.status_code not in (200, 206):
                raise WeightsError(
                    f"{url} cannot be fetched: the server answered {response.status_code} {response.reason};"
                    " the publisher may have moved the file, get it by hand and use"
                    " `avdetect weights import`."
                )
            if response.status_code == 206 and _range_start(response) != start:
                self.part.unlink(missing_ok=True)
                raise _Broken("the server sent another part of the file than asked for")
            if response.status_code == 200:
                start = 0  # the server ignores ranges: from the beginning
                self.resumed = False
            self._receive(response, start)

    def _receive(self, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        done = start
        with open(self.part, "ab" if start else "wb") as stream:
            try:
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    if self.progress:
                        self.progress(done, total)
            except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError) as error:
                if "timed out" in str(error):
                    raise requests.Timeout from error  # requests calls a silence within the body otherwise
                raise _Broken(f"the connection broke off after {done} bytes") from error
        if total is not None and done < total:
            raise _Broken(f"the connection broke off after {done} of {total} bytes")


def not_written(folder: Path, error: OSError) -> WeightsError:
    """The sentence for a cache folder that takes nothing."""
    reason = FULL.get(error.errno, error.strerror or str(error))
    return WeightsError(
        f"The folder {folder} cannot be written to ({reason}); make room, or name another one in $AVDETECT_CACHE."
    )


def _total(response: requests.Response) -> int | None:
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _range_start(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _root_cause(error: BaseException) -> str:
    """The innermost reason of requests' nested exceptions, in one line."""
    inner: BaseException = error
    while True:
        further = getattr(inner, "reason", None) or next(
            (a for a in inner.args if isinstance(a, BaseException)), None
        )
        if not isinstance(further, BaseException):
            break
        inner = further
    text = getattr(inner, "strerror", None) or str(inner)
    return re.sub(r"^\[Errno [-\d]+\] ", "", text.split("\n")[0].rpartition(": ")[2]).rstrip(".")[:200]

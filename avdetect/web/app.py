"""The application: store, workers, samples, and the routes to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from avdetect import __version__
from avdetect.inference.card import read_card
from avdetect.web.guards import Guard
from avdetect.web.samples import Samples
from avdetect.web.settings import Settings
from avdetect.web.store import Job, JobStore, Sender, TooManyJobs
from avdetect.web.uploads import Receiver, Refused, Upload
from avdetect.web.workers import Workers

JobId = Annotated[
    str, Path(pattern="^[0-9a-f]{32}$", description="The id that the upload was answered with.")
]


@dataclass
class Services:
    """What the routes work with."""

    settings: Settings
    store: JobStore
    workers: Workers
    samples: Samples
    receiver: Receiver
    card: dict

    def check_room(self, request: Request) -> None:
        """Raises Refused (429) where another job would be too many."""
        try:
            self.store.check_room(sender_of(request), self.settings.limits)
        except TooManyJobs as error:
            raise Refused(429, str(error)) from error

    def accept(self, request: Request, upload: Upload) -> Job:
        """Queue a whole upload. Raises Refused (429), and deletes it then."""
        try:
            job = self.store.add(upload.path, sender_of(request), upload.name, self.settings.limits)
        except TooManyJobs as error:
            raise Refused(429, str(error)) from error
        finally:
            upload.path.unlink(missing_ok=True)
        self.workers.notify()
        return job

    def delete(self, request: Request, job: Job) -> None:
        """Only who uploaded a file may delete it; whoever has its link may read. Raises HTTPException (403)."""
        if not owns(request, job):
            raise HTTPException(
                403, "only the browser that uploaded this file can delete it: its cookie is missing"
            )
        self.store.delete(job.id)
        self.workers.cancel(job.id)


def sender_of(request: Request) -> Sender:
    """A sender without a cookie gets one with the answer."""
    return Sender(request.state.client, request.client.host if request.client else "", request.state.known)


def owns(request: Request, job: Job) -> bool:
    return request.state.known and job.client == request.state.client


def services_of(request: Request) -> Services:
    return request.app.state.services


def job_of(request: Request, job_id: JobId) -> Job:
    job = services_of(request).store.get(job_id)
    if job is None:
        raise HTTPException(404, "there is no such job: it was deleted, or its time is over")
    return job


Here = Annotated[Services, Depends(services_of)]
ThisJob = Annotated[Job, Depends(job_of)]


def create_app(settings: Settings) -> FastAPI:
    """The application with its store open; workers and samples start with its lifespan.

    Raises ConfigError where another server uses the data folder, WeightsError where the bundle has no card.
    """
    from avdetect.web import api, pages

    card = read_card(settings.bundle)
    store = JobStore(settings.data)
    services = Services(
        settings,
        store,
        Workers(settings, store),
        Samples(settings.data),
        Receiver(store, settings.limits),
        card,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services.workers.start()
        if settings.samples:
            services.samples.start()
        yield
        services.samples.stop()
        services.workers.stop()
        store.close()

    app = FastAPI(
        title="avdetect", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
        description="Tells whether a video, an image or a voice recording is genuine or a deepfake.",
    )  # fmt: skip
    app.state.services = services
    app.include_router(api.router)
    app.include_router(pages.router)
    pages.mount_static(app)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(StarletteHTTPException, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Guard, settings=settings)
    return app


async def _refused(request: Request, error: Refused) -> JSONResponse:
    return _answer(request, error.status, str(error), {"connection": "close"})


async def _failed(request: Request, error: StarletteHTTPException) -> JSONResponse:
    return _answer(request, error.status_code, str(error.detail), dict(error.headers or {}))


async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return _answer(request, 422, where, {})


def _answer(request: Request, status: int, sentence: str, headers: dict[str, str]):
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": sentence}, status, headers)
    from avdetect.web.pages import error_page

    return error_page(status, sentence, headers)

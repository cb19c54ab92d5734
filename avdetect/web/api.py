"""REST: the routes below /api."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel

from avdetect.web.app import Here, Services, ThisJob
from avdetect.web.samples import SAMPLES
from avdetect.web.store import DONE, QUEUED, STATES, Job
from avdetect.web.uploads import Upload
from avdetect.web.worker import NAVIGATION, page_policy

STAGES = ("decode", "faces", "voice", "lipsync", "fusion", "report")
_POLL_S, _KEEP_ALIVE_S, _LONGEST_STREAM_S = 0.25, 15.0, 600.0

router = APIRouter(prefix="/api")
State = StrEnum("State", {state: state for state in STATES})
SampleName = StrEnum("SampleName", {sample.name: sample.name for sample in SAMPLES})


class Problem(BaseModel):
    """One sentence: what was found and what to do."""

    detail: str


class JobView(BaseModel):
    """A job; times are ISO 8601 in UTC."""

    id: str
    name: str
    size_bytes: int
    state: State
    stage: str | None  # of STAGES, while running
    ahead: int | None  # jobs that are taken before, while queued
    reason: str | None  # why there is no verdict, where the state is `failed`
    label: str | None  # real, fake, uncertain or unknown, where the state is `done`
    created: str
    started: str | None
    finished: str | None
    page: str
    events: str
    report: str
    verdict_json: str


class JobWithVerdict(JobView):
    verdict: dict[str, Any] | None  # as `avdetect predict --json` prints it


def view(services: Services, job: Job) -> JobView:
    own = f"/api/jobs/{job.id}"
    return JobView(
        **{name: getattr(job, name) for name in ("id", "name", "size_bytes", "state", "stage", "reason", "label")},
        ahead=services.store.ahead_of(job) if job.state == QUEUED else None,
        **{name: _iso(getattr(job, name)) for name in ("created", "started", "finished")},
        page=f"/jobs/{job.id}", events=f"{own}/events", report=f"{own}/report", verdict_json=f"{own}/verdict",
    )  # fmt: skip


def _iso(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documented errors of a route; every one may be asked for the token, and be called by a wrong name."""
    return {status: {"model": Problem} for status in (*statuses, 400, 401, 421)}


def problems_beside(content: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `problems`, of a route whose own answer is no JSON: FastAPI would give errors the type of that answer."""
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told = {status: {"description": "Problem", "content": problem} for status in (*statuses, 400, 401, 421)}
    return told | {200: {"description": "As asked", "content": {content: {}}}}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}},
    }
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": _BINARY, "multipart/form-data": _FORM},
    }
}


@router.post(
    "/jobs", status_code=202, response_model=JobView, openapi_extra=_BODY,
    responses=problems(403, 408, 413, 415, 422, 429, 507),
)  # fmt: skip
async def create_job(
    request: Request,
    services: Here,
    name: Annotated[str | None, Query(max_length=1000, description="File name, of a raw body.")] = None,
) -> JobView:
    """Upload one file, as the raw body or as the form's part `file`; it is judged when its turn comes."""
    services.check_room(request)
    (upload,) = await services.receiver.receive(request, name)
    return view(services, await asyncio.to_thread(services.accept, request, upload))


@router.post(
    "/samples/{name}", status_code=202, response_model=JobView, responses=problems(403, 404, 422, 429)
)
def create_sample_job(request: Request, services: Here, name: SampleName) -> JobView:
    """Judge one of the sample clips: drawn faces, which show how a result looks."""
    return view(services, judge_sample(request, services, name))


def judge_sample(request: Request, services: Services, name: str) -> Job:
    if name not in [sample.name for sample in services.samples.ready()]:
        raise HTTPException(404, "this sample clip is not drawn yet: try again in a few seconds")
    services.check_room(request)
    copy = services.store.incoming()
    copy.write_bytes(services.samples.clip(name).read_bytes())
    return services.accept(request, Upload(copy, f"sample_{name}.mp4"))


@router.get("/jobs", response_model=list[JobView], responses=problems())
def list_jobs(request: Request, services: Here) -> list[JobView]:
    """The jobs of this browser (its cookie), newest first."""
    return [view(services, job) for job in services.store.of_client(request.state.client)]


@router.get("/jobs/{job_id}", response_model=JobWithVerdict, responses=problems(404, 422))
def get_job(services: Here, job: ThisJob) -> JobWithVerdict:
    """State and, once it is done, the verdict. Whoever has the id may read."""
    text = services.store.verdict(job.id)
    return JobWithVerdict(
        **view(services, job).model_dump(), verdict=None if text is None else json.loads(text)
    )


@router.delete("/jobs/{job_id}", status_code=204, responses=problems(403, 404, 422))
def delete_job(request: Request, services: Here, job: ThisJob) -> None:
    """Delete upload, verdict and report at once; only the browser that uploaded (its cookie) may."""
    services.delete(request, job)


@router.get(
    "/jobs/{job_id}/verdict", responses=problems(404, 409, 422) | {200: {"content": {"application/json": {}}}},
    response_class=Response,
)  # fmt: skip
def get_verdict(services: Here, job: ThisJob) -> Response:
    """The verdict alone, the very text that `avdetect predict --json` prints."""
    _check_done(job)
    return Response(services.store.verdict(job.id), media_type="application/json")


@router.get(
    "/jobs/{job_id}/report",
    response_class=HTMLResponse,
    responses=problems_beside("text/html", 404, 409, 422),
)
def get_report(services: Here, job: ThisJob) -> HTMLResponse:
    """The report, one page without outside requests, to keep."""
    _check_done(job)
    return HTMLResponse(report_text(services, job, ""), headers={"content-security-policy": report_policy()})


def report_text(services: Services, job: Job, navigation: str) -> str:
    """The kept page with something in the place kept for navigation."""
    page = services.store.file(job.id, "report.html").read_text(encoding="utf-8")
    return page.replace(NAVIGATION, navigation, 1)


def report_policy() -> str:
    return f"{page_policy()}; frame-ancestors 'none'"


def _check_done(job: Job) -> None:
    if job.state != DONE:
        raise HTTPException(409, job.reason or f"there is no verdict yet: the job is {job.state}")


@router.get(
    "/jobs/{job_id}/events", response_class=StreamingResponse,
    responses=problems_beside("text/event-stream", 404, 422),
)  # fmt: skip
async def get_events(request: Request, services: Here, job: ThisJob) -> StreamingResponse:
    """Server-sent events: `job` with the job as JSON at each change, until it has ended; `gone` if it is deleted."""
    return StreamingResponse(_events(request, services, job), media_type="text/event-stream")


async def _events(request: Request, services: Services, job: Job | None) -> AsyncIterator[str]:
    begin = spoken = time.monotonic()
    job_id, said = job.id, None
    while time.monotonic() - begin < _LONGEST_STREAM_S:  # the browser asks again
        job = await asyncio.to_thread(services.store.get, job_id)
        if job is None:
            yield "event: gone\ndata: {}\n\n"
            return
        now = view(services, job).model_dump_json()
        if now != said:
            said, spoken = now, time.monotonic()
            yield f"event: job\ndata: {now}\n\n"
        elif time.monotonic() - spoken > _KEEP_ALIVE_S:
            spoken = time.monotonic()
            yield ": still here\n\n"
        if job.ended or await request.is_disconnected():
            return
        await asyncio.sleep(_POLL_S)

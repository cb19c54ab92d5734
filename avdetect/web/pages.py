"""The pages for people; each works without JavaScript."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from avdetect.inference.card import BUILTIN_FOLDER
from avdetect.report.pagefile import page_environment
from avdetect.report.policy import TEMPLATES
from avdetect.web.api import STAGES, SampleName, judge_sample, report_policy, report_text
from avdetect.web.app import Here, ThisJob, owns
from avdetect.web.guards import TOKEN_COOKIE, is_token, set_cookie, token_cookie
from avdetect.web.store import DONE, FAILED, QUEUED, Job
from avdetect.web.uploads import LONGEST_NAME

HERE = Path(__file__).parent
MOST_FILES = 20  # of one plain form
LABELS = {
    "fake": "Likely manipulated", "real": "No signs of manipulation found", "uncertain": "Cannot tell",
    "unknown": "Not judged",
}  # fmt: skip
STAGE_NAMES = dict(
    zip(STAGES, ("Reading the file", "Faces", "Voice", "Lip-sync", "Verdict", "Report"), strict=True)
)
_LONGEST_FORM = 2000

router = APIRouter(include_in_schema=False)
_templates = page_environment(HERE / "templates")


def mount_static(app: FastAPI) -> None:
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")


def _page(
    name: str, status: int = 200, headers: dict[str, str] | None = None, **values: object
) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(name).render(**values), status, headers)


def error_page(status: int, sentence: str, headers: dict[str, str]) -> HTMLResponse:
    return _page("error.html.j2", status, headers, sentence=sentence[0].upper() + sentence[1:])


def _hours(seconds: float) -> str:
    """ "1 hour", "30 days": how long something is kept."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = f"{seconds / size:.3g}"
            return f"{count} {unit}" + ("" if count == "1" else "s")
    return f"{seconds:.3g} seconds"


def word_of(job: Job) -> str:
    """What a history says of a job."""
    if job.state == DONE:
        return LABELS[job.label]
    return {QUEUED: "Waiting", FAILED: "Not analysed"}.get(job.state, "Being analysed")


@router.get("/static/report.css")
def report_style() -> FileResponse:
    """One style for the report and the pages around it."""
    return FileResponse(TEMPLATES / "report.css", media_type="text/css")


@router.get("/")
def start(request: Request, services: Here) -> HTMLResponse:
    settings, card = services.settings, services.card
    return _page(
        "start.html.j2",
        jobs=[(job, word_of(job)) for job in services.store.of_client(request.state.client)],
        samples=services.samples.ready(),
        drawing=settings.samples,
        limits=settings.limits,
        upload_kept=_hours(settings.keep_uploads_s),
        result_kept=_hours(settings.keep_results_s),
        detector=card.get("name") or "unnamed",
        licence=card.get("licence") or "not stated",
        builtin=settings.bundle == BUILTIN_FOLDER,
        warnings=card.get("warnings") or [],
        longest_name=LONGEST_NAME,
    )


@router.post("/upload")
async def upload(request: Request, services: Here) -> RedirectResponse:
    """The plain form, for browsers without JavaScript: one file leads to its page, several to the history."""
    services.check_room(request)
    received = await services.receiver.receive(request, None, MOST_FILES)
    jobs = []
    try:
        while received:
            jobs.append(services.accept(request, received.pop(0)))
    finally:
        for left in received:
            left.path.unlink(missing_ok=True)
    return RedirectResponse(f"/jobs/{jobs[0].id}" if len(jobs) == 1 else "/#history", 303)


@router.post("/samples/{name}")
def try_sample(request: Request, services: Here, name: SampleName) -> RedirectResponse:
    return RedirectResponse(f"/jobs/{judge_sample(request, services, name).id}", 303)


@router.get("/samples/{name}.jpg")
def sample_poster(services: Here, name: SampleName) -> FileResponse:
    if not services.samples.poster(name).exists():
        raise HTTPException(404, "this sample clip is not drawn yet")
    return FileResponse(services.samples.poster(name), media_type="image/jpeg")


@router.get("/jobs/{job_id}")
def job_page(request: Request, services: Here, job: ThisJob) -> HTMLResponse:
    """Where a job stands; once it is done, its report."""
    mine = owns(request, job)
    if job.state == DONE:
        navigation = _templates.get_template("navigation.html.j2").render(job=job, mine=mine)
        return HTMLResponse(
            report_text(services, job, navigation), headers={"content-security-policy": report_policy()}
        )
    ahead = services.store.ahead_of(job) if job.state == QUEUED else None
    return _page("job.html.j2", job=job, ahead=ahead, stages=STAGE_NAMES, mine=mine)


@router.get("/jobs/{job_id}/delete")
def confirm_delete(request: Request, job: ThisJob) -> HTMLResponse:
    return _page("delete.html.j2", job=job, mine=owns(request, job))


@router.post("/jobs/{job_id}/delete")
def delete(request: Request, services: Here, job: ThisJob) -> RedirectResponse:
    services.delete(request, job)
    return RedirectResponse("/#history", 303)


@router.get("/login")
def login_page(services: Here) -> Response:
    if services.settings.token is None:
        return RedirectResponse("/", 303)
    return _page("login.html.j2", wrong=False)


@router.post("/login")
async def login(request: Request, services: Here) -> Response:
    token, body = services.settings.token, b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413, "that is longer than any token: copy it again")
    given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
    if token is None or not is_token(given.strip(), token):
        return _page("login.html.j2", 401, wrong=True)
    response = RedirectResponse("/", 303)
    set_cookie(response, request.scope, TOKEN_COOKIE, token_cookie(token))
    return response

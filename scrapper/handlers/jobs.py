"""``/jobs``: batches of posts, and their progress as server-sent events."""

from typing import cast, get_args

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import LooseHeaders

from scrapper.handlers.clients import owner_of
from scrapper.handlers.openapi import Operation, Parameter
from scrapper.handlers.queries import CURSOR, FLAG, LIMIT, choice_in, cursor_in, flag_in, limit_in
from scrapper.handlers.refusals import InvalidBody, WebhooksDisabled
from scrapper.handlers.request_bodies import JobRequest, read_body
from scrapper.handlers.resources import (
    JOB_FEEDS,
    JOBS,
    PROXY,
    SETTINGS,
    STREAMS,
    WEBHOOK_HOSTS,
)
from scrapper.handlers.responses import JobListing
from scrapper.handlers.streams import LAST_EVENT_ID, send_events
from scrapper.jobs.model import Job, JobEvent, JobFilter, JobResponse, JobState, new_job
from scrapper.serving.base_path import BASE_PATH

__all__ = [
    "LAST_EVENT",
    "cancel_job",
    "create_job",
    "get_job",
    "job_events",
    "list_jobs",
    "retry_job",
    "tokens_of_a_batch",
]

LAST_EVENT = Parameter(LAST_EVENT_ID, "header", {"type": "string"}, "Resume after this event")
"""The parameter that every stream of events takes."""

_ID = Parameter("id", "path", {"type": "string", "minLength": 1})
_STATES = get_args(JobState)


@Operation(
    id="createJob",
    summary="Download posts in the background",
    tag="jobs",
    response=JobResponse,
    status=202,
    body=JobRequest,
    errors=(400, 403, 408, 507),
    headers={"Location": {"required": True, "schema": {"type": "string"}}},
)
async def create_job(request: web.Request) -> web.Response:
    asked = await read_body(request, JobRequest)
    job = new_job(
        asked.urls,
        max_url_length=request.app[SETTINGS].max_url_length,
        client=request.app[PROXY].client_of(request),
        keep=asked.keep,
        wish=asked.wish(request.app[SETTINGS].video_quality),
        webhook=_checked_webhook(request, asked.webhook),
        owner=await owner_of(request),
    )
    await request.app[JOBS].submit(job)
    prefix = request.app[BASE_PATH].prefix_of(request)
    headers = {hdrs.LOCATION: f"{prefix}/jobs/{job.id}"}
    return _respond(job, status=202, headers=headers)


@Operation(
    id="listJobs",
    summary="The jobs, newest first",
    tag="jobs",
    response=JobListing,
    errors=(400,),
    parameters=(
        LIMIT,
        CURSOR,
        Parameter("state", "query", {"type": "string", "enum": _STATES}, "Only jobs in this state"),
    ),
)
async def list_jobs(request: web.Request) -> web.Response:
    """The jobs, newest first: ``limit`` of them, after ``cursor``.

    A named key sees only its own jobs.
    """
    limit, after = limit_in(request), cursor_in(request)
    state = cast(JobState | None, choice_in(request, "state", _STATES))
    wanted = JobFilter(await owner_of(request), state)
    jobs, last = await request.app[JOBS].list(limit, after, wanted)
    listing = JobListing([job.to_response() for job in jobs], last and str(last))
    return web.Response(body=orjson.dumps(listing), content_type="application/json")


@Operation(
    id="getJob",
    summary="A job, and the progress of each of its posts",
    tag="jobs",
    response=JobResponse,
    errors=(404,),
    parameters=(_ID,),
)
async def get_job(request: web.Request) -> web.Response:
    return _respond(await _job(request))


@Operation(
    id="cancelJob",
    summary="Cancel the posts of a job that have not started, or forget a finished job",
    tag="jobs",
    response=JobResponse,
    errors=(400, 404, 409, 507),
    parameters=(
        _ID,
        Parameter("forget", "query", FLAG, "Take the finished job off the list, for everybody"),
    ),
    more={204: ("The job is forgotten", None)},
)
async def cancel_job(request: web.Request) -> web.Response:
    """Cancel the posts that have not started; with ``forget=1``, take the job off the list."""
    forgets = flag_in(request, "forget")
    job = await _job(request)
    if forgets:
        if not await request.app[JOBS].forget(job):
            raise _unknown()
        return web.Response(status=204)
    if not await request.app[JOBS].cancel(job):
        raise _unknown()
    return _respond(job)


@Operation(
    id="retryJob",
    summary="Queue the failed and cancelled posts of a job again",
    tag="jobs",
    response=JobResponse,
    status=202,
    errors=(404, 507),
    parameters=(_ID,),
)
async def retry_job(request: web.Request) -> web.Response:
    job = await _job(request)
    if not await request.app[JOBS].retry(job):
        raise _unknown()
    return _respond(job, status=202)


@Operation(
    id="followJob",
    summary="A job's progress as server-sent events: `post` for each change, then `end`",
    tag="jobs",
    response=JobEvent | JobResponse,
    events=("post", "end"),
    errors=(404,),
    parameters=(_ID, LAST_EVENT),
    more={204: ("There are no more events", None)},
)
async def job_events(request: web.Request) -> web.StreamResponse:
    """The job's progress, as server-sent events, until its end.

    A ``post`` event has one post. The stream begins with one event for each post, or for each that
    changed after the event in ``Last-Event-ID``. The last event is ``end``, with the whole job. A
    client that reconnects after ``end`` gets 204, which makes it stop.
    """
    job = await _job(request)
    seen = _version_of(request.headers.get(LAST_EVENT_ID, ""), job)
    if seen and job.state != "running" and not job.changes(seen):
        return web.Response(status=204)
    with request.app[STREAMS].one_of(request.app[PROXY].client_of(request), request):
        async with request.app[JOB_FEEDS].following(job) as feed:
            return await send_events(request, feed.after(seen))


async def tokens_of_a_batch(request: web.Request) -> int:
    """How many tokens of the rate limit a request costs: one for each post that it queues.

    Other requests cost one.
    """
    path = request.app[BASE_PATH].own_path(request)
    if request.method != hdrs.METH_POST or not path.startswith("/jobs"):
        return 1
    if "id" in request.match_info:
        job = await _own_job(request)
        return max(1, sum(post.can_be_retried for post in job.posts) if job else 0)
    try:
        return len((await read_body(request, JobRequest)).urls)
    except web.HTTPBadRequest:
        return 1


def _checked_webhook(request: web.Request, url: str | None) -> str | None:
    hosts = request.app[WEBHOOK_HOSTS]
    if url is None:
        return None
    if not hosts:
        raise WebhooksDisabled
    if not hosts.allow(url):
        raise InvalidBody(text="webhook: not an http or https URL of a host in WEBHOOK_HOSTS")
    return url


def _respond(job: Job, *, status: int = 200, headers: LooseHeaders | None = None) -> web.Response:
    body = orjson.dumps(job.to_response())
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def _job(request: web.Request) -> Job:
    job = await _own_job(request)
    if job is None:
        raise _unknown()
    return job


async def _own_job(request: web.Request) -> Job | None:
    """The job that the request's path names; None if it is unknown, or somebody else's.

    A client learns nothing of others' jobs, not even that they exist.
    """
    job = await request.app[JOBS].get(request.match_info["id"])
    owner = await owner_of(request)
    return job if job is not None and owner in (None, job.owner) else None


def _unknown() -> web.HTTPNotFound:
    return web.HTTPNotFound(text="There is no such job")


def _version_of(event_id: str, job: Job) -> int:
    # Numbers of another epoch are not comparable.
    epoch, _, version = event_id.partition("-")
    known = epoch == job.epoch and version.isascii() and version.isdecimal() and len(version) < 16  # noqa: PLR2004
    return int(version) if known else 0

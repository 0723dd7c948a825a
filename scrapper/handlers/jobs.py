"""``/jobs``: batches of posts to download, with progress as server-sent events."""

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
    "batch_tokens",
    "cancel_job",
    "create_job",
    "get_job",
    "job_events",
    "list_jobs",
    "retry_job",
]

LAST_EVENT = Parameter(LAST_EVENT_ID, "header", {"type": "string"}, "ID of the last event received")
"""The parameter that every event stream accepts."""

_ID = Parameter("id", "path", {"type": "string", "minLength": 1})
_STATES = get_args(JobState)
_MAX_VERSION_DIGITS = 15


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
    body = await read_body(request, JobRequest)
    job = new_job(
        body.urls,
        max_url_length=request.app[SETTINGS].max_url_length,
        client=request.app[PROXY].client_of(request),
        keep=body.keep,
        preference=body.preference(request.app[SETTINGS].video_quality),
        webhook=_checked_webhook(request, body.webhook),
        owner=await owner_of(request),
    )
    await request.app[JOBS].submit(job)
    prefix = request.app[BASE_PATH].prefix_of(request)
    headers = {hdrs.LOCATION: f"{prefix}/jobs/{job.id}"}
    return _respond(job, status=202, headers=headers)


@Operation(
    id="listJobs",
    summary="List the jobs, newest first",
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
    """Return a page of up to ``limit`` jobs after ``cursor``, newest first.

    Clients with a named key and users whom a proxy signed in see only their own jobs.
    """
    limit, after = limit_in(request), cursor_in(request)
    state = cast(JobState | None, choice_in(request, "state", _STATES))
    job_filter = JobFilter(await owner_of(request), state)
    jobs, last = await request.app[JOBS].list(limit, after, job_filter)
    listing = JobListing([job.to_response() for job in jobs], last and str(last))
    return web.Response(body=orjson.dumps(listing), content_type="application/json")


@Operation(
    id="getJob",
    summary="Get a job and the progress of each of its posts",
    tag="jobs",
    response=JobResponse,
    errors=(404,),
    parameters=(_ID,),
)
async def get_job(request: web.Request) -> web.Response:
    return _respond(await _job(request))


@Operation(
    id="cancelJob",
    summary="Cancel a job's posts that have not started, or remove a finished job from the list",
    tag="jobs",
    response=JobResponse,
    errors=(400, 404, 409, 507),
    parameters=(
        _ID,
        Parameter(
            "forget",
            "query",
            FLAG,
            "Remove a finished job from the list, for everyone who may see it",
        ),
    ),
    more={204: ("The job was removed from the list", None)},
)
async def cancel_job(request: web.Request) -> web.Response:
    """Cancel the posts that have not started; with ``forget=1``, remove a finished job instead."""
    forgets = flag_in(request, "forget")
    job = await _job(request)
    if forgets:
        if not await request.app[JOBS].forget(job):
            raise _not_found()
        return web.Response(status=204)
    if not await request.app[JOBS].cancel(job):
        raise _not_found()
    return _respond(job)


@Operation(
    id="retryJob",
    summary="Queue a job's failed and cancelled posts again",
    tag="jobs",
    response=JobResponse,
    status=202,
    errors=(404, 507),
    parameters=(_ID,),
)
async def retry_job(request: web.Request) -> web.Response:
    job = await _job(request)
    if not await request.app[JOBS].retry(job):
        raise _not_found()
    return _respond(job, status=202)


@Operation(
    id="followJob",
    summary="Follow a job's progress as server-sent events: `post` for each change, then `end`",
    tag="jobs",
    response=JobEvent | JobResponse,
    events=("post", "end"),
    errors=(404,),
    parameters=(_ID, LAST_EVENT),
    more={204: ("There are no more events", None)},
)
async def job_events(request: web.Request) -> web.StreamResponse:
    """Stream the job's progress as server-sent events until the job ends.

    Each ``post`` event contains one post. The stream begins with an event for each post or, if the
    client sends ``Last-Event-ID``, for each post that changed after that event. The last event is
    ``end``, with the whole job. A client that reconnects after ``end`` gets 204, and should stop
    reconnecting.
    """
    job = await _job(request)
    seen = _version_of(request.headers.get(LAST_EVENT_ID, ""), job)
    if seen and job.state != "running" and not job.changes(seen):
        return web.Response(status=204)
    with request.app[STREAMS].counting(request.app[PROXY].client_of(request), request):
        async with request.app[JOB_FEEDS].following(job) as feed:
            return await send_events(request, feed.after(seen))


async def batch_tokens(request: web.Request) -> int:
    """Return the number of rate-limit tokens that a request costs: one for each post it queues.

    A request that queues no posts costs one token.
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
        raise InvalidBody(text="webhook must be an http(s) URL whose host is in WEBHOOK_HOSTS")
    return url


def _respond(job: Job, *, status: int = 200, headers: LooseHeaders | None = None) -> web.Response:
    body = orjson.dumps(job.to_response())
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


async def _job(request: web.Request) -> Job:
    job = await _own_job(request)
    if job is None:
        raise _not_found()
    return job


async def _own_job(request: web.Request) -> Job | None:
    """Return the job in the request's path, or None if it is unknown or belongs to another client.

    The two cases look the same, so that no client can find out whether another client's job exists.
    """
    job = await request.app[JOBS].get(request.match_info["id"])
    owner = await owner_of(request)
    return job if job is not None and owner in (None, job.owner) else None


def _not_found() -> web.HTTPNotFound:
    return web.HTTPNotFound(text="There is no such job")


def _version_of(event_id: str, job: Job) -> int:
    # Versions of different epochs are not comparable.
    epoch, _, version = event_id.partition("-")
    is_valid = (
        epoch == job.epoch
        and version.isascii()
        and version.isdecimal()
        and len(version) <= _MAX_VERSION_DIGITS
    )
    return int(version) if is_valid else 0

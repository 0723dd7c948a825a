"""The service's exceptions, and the HTTP response to each.

Clients get only the messages in :data:`RESPONSES`. Messages from Instagram and Instaloader go to
the log, because they may contain signed CDN URLs.
"""

import math
from collections.abc import Mapping

__all__ = [
    "INTERNAL_ERROR",
    "RESPONSES",
    "AudioLink",
    "Busy",
    "ChallengeRequired",
    "CoolingDown",
    "DeadlineExceeded",
    "DiskFull",
    "DiskReadOnly",
    "FFmpegMissing",
    "HighlightLink",
    "InstagramChanged",
    "InstagramFailed",
    "InstagramUnreachable",
    "InvalidURL",
    "JobRunning",
    "JobsFull",
    "JobsUnreachable",
    "MediaFolderGone",
    "MediaIncomplete",
    "MediaTooLarge",
    "MediaUnexpected",
    "PaceExceeded",
    "PostForbidden",
    "PostNotFound",
    "ProfileLink",
    "RateLimited",
    "ScrapeError",
    "ServerFull",
    "SessionRefused",
    "SettingsError",
    "StoryLink",
    "TooManyJobs",
    "TooManyStreams",
    "UnsupportedLink",
    "response_to",
]


class SettingsError(Exception):
    """One or more settings are invalid; the message lists them all, one per line."""


class ScrapeError(Exception):
    """A failure that the API documents.

    ``retry_after`` is the number of seconds to wait before trying again, if known.
    """

    def __init__(self, *, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class InvalidURL(ScrapeError):
    """The text is not the URL of an Instagram post."""


class UnsupportedLink(ScrapeError):
    """The link leads to something on Instagram other than a post."""


class StoryLink(UnsupportedLink):
    """The link leads to all of a user's stories, or is a share link to a story."""


class HighlightLink(UnsupportedLink):
    """The link leads to a whole highlight."""


class AudioLink(UnsupportedLink):
    """The link leads to an audio page."""


class ProfileLink(UnsupportedLink):
    """The link leads to a profile."""


class PostForbidden(ScrapeError):
    """The post is private, or Instagram requires a login to show it."""


class ChallengeRequired(PostForbidden):
    """Instagram will not answer queries until a checkpoint or challenge is completed."""


class SessionRefused(ScrapeError):
    """Instagram rejected the session or ended it."""


class PostNotFound(ScrapeError):
    """The post does not exist, was removed, or is hidden."""


class RateLimited(ScrapeError):
    """Instagram refused a query because there were too many queries.

    ``cool_down`` is True if the service should pause all queries, and False if it may continue
    with the next post.
    """

    def __init__(self, *, retry_after: float | None = None, cool_down: bool = True) -> None:
        super().__init__(retry_after=retry_after)
        self.cool_down = cool_down


class CoolingDown(RateLimited):
    """Instagram recently refused a query, so the service did not send this one."""


class PaceExceeded(ScrapeError):
    """The service's own limit allows no more queries to Instagram for now."""


class InstagramChanged(ScrapeError):
    """Instagram sent an answer that this version of the service does not understand."""


class InstagramFailed(ScrapeError):
    """Instagram answered with a server error."""


class MediaIncomplete(ScrapeError):
    """A file of the post was incomplete, even after a retry."""


class MediaUnexpected(ScrapeError):
    """A file of the post is not of the type that Instagram declared."""


class MediaTooLarge(ScrapeError):
    """Every file of the post is larger than the client or the service allows.

    ``smallest`` is the size in bytes of the smallest file, if known.
    """

    def __init__(self, smallest: int | None = None) -> None:
        super().__init__()
        self.smallest = smallest

    @property
    def detail(self) -> str:
        """The end of the message: the lowest ``max_mb`` with which the smallest file would fit."""
        if self.smallest is None:
            return ""
        return f"the smallest is {math.ceil(self.smallest / 10_000) / 100:g} MB"

    @property
    def fields(self) -> Mapping[str, int | None]:
        """The error's additional machine-readable fields."""
        return {"smallest_size": self.smallest}


class FFmpegMissing(ScrapeError):
    """The post's video and audio are separate files, and joining them requires ffmpeg."""


class InstagramUnreachable(ScrapeError):
    """Connecting to Instagram failed, or the connection broke before an answer arrived."""


class MediaFolderGone(ScrapeError):
    """The media folder is gone or was replaced."""


class DeadlineExceeded(ScrapeError):
    """The scrape's deadline passed."""


class ServerFull(ScrapeError):
    """Too many posts are already waiting or being downloaded."""


class JobsFull(ScrapeError):
    """``MAX_JOBS`` jobs are stored, all of them unfinished."""


class TooManyJobs(ScrapeError):
    """The client already has the maximum number of unfinished jobs."""


class JobRunning(ScrapeError):
    """The job is unfinished, so it cannot be removed."""


class TooManyStreams(ScrapeError):
    """The client already has the maximum number of event streams open."""


class JobsUnreachable(ScrapeError):
    """Redis, where the jobs are stored, does not answer."""


class Busy(ScrapeError):
    """One of the service's databases is locked by another program, or was just recreated."""


class DiskFull(ScrapeError):
    """The disk is full, or storing the post would leave less than MIN_FREE_DISK_MB free."""


class DiskReadOnly(ScrapeError):
    """The disk is read-only."""


INTERNAL_ERROR = (500, "internal_error", "Internal server error")
"""The response to a bug in the service."""

RESPONSES: Mapping[type[Exception], tuple[int, str, str]] = {
    InvalidURL: (400, "invalid_url", "Invalid URL format"),
    StoryLink: (
        400,
        "unsupported_link",
        "The link leads to stories: open the one you want and copy its link",
    ),
    HighlightLink: (
        400,
        "unsupported_link",
        "The link leads to a whole highlight: open the item you want and copy its link",
    ),
    AudioLink: (
        400,
        "unsupported_link",
        "The link leads to an audio page: only posts and reels can be downloaded",
    ),
    ProfileLink: (
        400,
        "unsupported_link",
        "The link leads to a profile: only posts and reels can be downloaded",
    ),
    UnsupportedLink: (400, "unsupported_link", "The link leads to something other than a post"),
    ChallengeRequired: (
        403,
        "challenge_required",
        "Instagram requires a checkpoint or challenge: complete it in a browser, then try again",
    ),
    PostForbidden: (
        403,
        "login_required",
        "The post is private, or Instagram asks for a login to show it",
    ),
    SessionRefused: (
        403,
        "login_required",
        "Instagram rejected this session: log in with a browser and copy the cookies again",
    ),
    PostNotFound: (404, "post_not_found", "The post does not exist or was removed"),
    JobRunning: (409, "job_running", "The job is unfinished: cancel it, or wait until it finishes"),
    MediaTooLarge: (422, "media_too_large", "Every file of the post is too large"),
    CoolingDown: (
        429,
        "cooling_down",
        "Instagram's rate limit was reached recently: wait before trying again",
    ),
    PaceExceeded: (
        429,
        "pace_exceeded",
        "This service's own limit on requests to Instagram was reached: wait before trying again",
    ),
    RateLimited: (
        429,
        "instagram_rate_limited",
        "Instagram's rate limit has been reached: wait before trying again",
    ),
    TooManyStreams: (
        429,
        "too_many_requests",
        "You have too many event streams open: close one",
    ),
    TooManyJobs: (
        429,
        "too_many_requests",
        "You have too many unfinished jobs: wait for some to finish",
    ),
    InstagramChanged: (
        502,
        "instagram_changed",
        "Instagram's answer was not understood: Instagram may have changed its API",
    ),
    InstagramFailed: (502, "instagram_failed", "Instagram answered with a server error"),
    MediaIncomplete: (502, "media_incomplete", "A file of the post could not be fully downloaded"),
    MediaUnexpected: (502, "media_unexpected", "A file of the post is not of the expected type"),
    FFmpegMissing: (
        502,
        "ffmpeg_missing",
        "Instagram serves this video and its audio as separate files: install ffmpeg to join them",
    ),
    InstagramUnreachable: (503, "instagram_unreachable", "Instagram could not be reached"),
    DeadlineExceeded: (503, "deadline_exceeded", "The post was not downloaded in time"),
    ServerFull: (503, "server_full", "Too many posts are waiting: try again later"),
    Busy: (503, "busy", "A database of the service is in use: try again in a moment"),
    MediaFolderGone: (503, "media_folder_gone", "The media folder is gone: is its disk mounted?"),
    JobsFull: (503, "jobs_full", "Too many jobs are unfinished: try again later"),
    JobsUnreachable: (503, "jobs_unreachable", "Jobs are unavailable for now: try again later"),
    DiskFull: (507, "disk_full", "The disk is full: nothing more can be stored for now"),
    DiskReadOnly: (507, "disk_read_only", "The disk is read-only: nothing can be stored for now"),
}
"""Maps exception types to (status, code, message). A class without an entry uses its base class's.

Codes are stable. Messages may be reworded, so nothing may depend on their wording."""


def response_to(error: Exception) -> tuple[int, str, str]:
    """Return the status, code and message for *error*.

    The result is :data:`INTERNAL_ERROR` if neither the error's type nor a base class is listed.
    """
    known = (RESPONSES[base] for base in type(error).__mro__ if base in RESPONSES)
    status, code, message = next(known, INTERNAL_ERROR)
    detail = getattr(error, "detail", "")
    return status, code, f"{message}: {detail}" if detail else message

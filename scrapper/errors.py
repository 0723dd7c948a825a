"""What can go wrong with a scrape, and the HTTP response that each case gets.

Clients get the messages of :data:`RESPONSES` and nothing else. What Instagram or Instaloader said
goes to the log, because it may hold signed CDN URLs.
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
    """One or more settings are wrong; the text names them all, a line each."""


class ScrapeError(Exception):
    """A scrape failed in a way that the API documents.

    ``retry_after`` is the number of seconds after which to try again, if known.
    """

    def __init__(self, *, retry_after: float | None = None) -> None:
        super().__init__()
        self.retry_after = retry_after


class InvalidURL(ScrapeError):
    """The text is not the URL of an Instagram post."""


class UnsupportedLink(ScrapeError):
    """The link is Instagram's, but leads to something other than a post."""


class StoryLink(UnsupportedLink):
    """The link leads to all stories of a user, or a share link to a story."""


class HighlightLink(UnsupportedLink):
    """The link leads to a whole highlight."""


class AudioLink(UnsupportedLink):
    """The link leads to the page of a sound."""


class ProfileLink(UnsupportedLink):
    """The link leads to a profile."""


class PostForbidden(ScrapeError):
    """The post is private, or Instagram wants a login before it shows it."""


class ChallengeRequired(PostForbidden):
    """Instagram asks for a checkpoint or a challenge before it answers anything else."""


class SessionRefused(ScrapeError):
    """Instagram does not accept the session, or ended it."""


class PostNotFound(ScrapeError):
    """The post does not exist, or was removed or hidden."""


class RateLimited(ScrapeError):
    """Instagram refused because of too many requests.

    ``cool_down`` says whether to leave Instagram alone for a while, rather than ask for the next
    post as usual.
    """

    def __init__(self, *, retry_after: float | None = None, cool_down: bool = True) -> None:
        super().__init__(retry_after=retry_after)
        self.cool_down = cool_down


class CoolingDown(RateLimited):
    """Instagram refused a short while ago; it was not asked again."""


class PaceExceeded(ScrapeError):
    """Our own pace towards Instagram allows no further query now."""


class InstagramChanged(ScrapeError):
    """Instagram's answer makes no sense to this version of the service."""


class InstagramFailed(ScrapeError):
    """Instagram answered with an error of its own."""


class MediaIncomplete(ScrapeError):
    """A file of the post did not arrive whole, even at the second try."""


class MediaUnexpected(ScrapeError):
    """A file of the post is not of the type that Instagram announced."""


class MediaTooLarge(ScrapeError):
    """Every file of the post is larger than the client, or the service, allows.

    ``smallest`` is the size in bytes of the smallest file, if known.
    """

    def __init__(self, smallest: int | None = None) -> None:
        super().__init__()
        self.smallest = smallest

    @property
    def detail(self) -> str:
        """The end of the message: the least ``max_mb`` that would help."""
        if self.smallest is None:
            return ""
        return f"the smallest is {math.ceil(self.smallest / 10_000) / 100:g} MB"

    @property
    def fields(self) -> Mapping[str, int | None]:
        """Further fields of the error, for programs."""
        return {"smallest_size": self.smallest}


class FFmpegMissing(ScrapeError):
    """The post's video and sound are separate, and there is no ffmpeg to join them."""


class InstagramUnreachable(ScrapeError):
    """No connection to Instagram, or it broke before an answer came."""


class MediaFolderGone(ScrapeError):
    """The media folder is gone, or another one is in its place."""


class DeadlineExceeded(ScrapeError):
    """The scrape's deadline passed."""


class ServerFull(ScrapeError):
    """Too many posts are under way or wait already."""


class JobsFull(ScrapeError):
    """``MAX_JOBS`` jobs are kept, and none of them is finished."""


class TooManyJobs(ScrapeError):
    """The client has the maximum number of unfinished jobs."""


class JobRunning(ScrapeError):
    """The job is not finished, so it cannot be forgotten."""


class TooManyStreams(ScrapeError):
    """The client follows the maximum number of streams of events."""


class JobsUnreachable(ScrapeError):
    """Redis, which keeps the jobs, does not answer."""


class Busy(ScrapeError):
    """Another program has locked a file of the service, or the file was recreated just now."""


class DiskFull(ScrapeError):
    """The disk has no room for the post, or would have less than MIN_FREE_DISK_MB left."""


class DiskReadOnly(ScrapeError):
    """The disk takes no writes."""


INTERNAL_ERROR = (500, "internal_error", "Internal server error")
"""The response to a fault of ours."""

RESPONSES: Mapping[type[Exception], tuple[int, str, str]] = {
    InvalidURL: (400, "invalid_url", "Invalid URL format"),
    StoryLink: (
        400,
        "unsupported_link",
        "The link leads to stories: open the one that you want, and copy its own link",
    ),
    HighlightLink: (
        400,
        "unsupported_link",
        "The link leads to a whole highlight: open the item that you want, and copy its own link",
    ),
    AudioLink: (
        400,
        "unsupported_link",
        "The link leads to a sound: only posts and reels can be downloaded",
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
        "Instagram asks for a checkpoint or challenge: confirm it in a browser, then try again",
    ),
    PostForbidden: (
        403,
        "login_required",
        "The post is private, or Instagram asks for a login to show it",
    ),
    SessionRefused: (
        403,
        "login_required",
        "Instagram does not accept this session: log in with a browser, and copy the cookies again",
    ),
    PostNotFound: (404, "post_not_found", "The post does not exist or was removed"),
    JobRunning: (409, "job_running", "The job is not finished: cancel it, or wait for its end"),
    MediaTooLarge: (422, "media_too_large", "Every file of the post is too large"),
    CoolingDown: (
        429,
        "cooling_down",
        "Instagram's rate limit was reached: wait before the next try",
    ),
    PaceExceeded: (
        429,
        "pace_exceeded",
        "This service reached its own limit of requests to Instagram: wait",
    ),
    RateLimited: (
        429,
        "instagram_rate_limited",
        "Instagram's rate limit is reached: wait before the next try",
    ),
    TooManyStreams: (
        429,
        "too_many_requests",
        "You follow too many streams of events at once: end one",
    ),
    TooManyJobs: (429, "too_many_requests", "Too many of your jobs are unfinished: wait for them"),
    InstagramChanged: (
        502,
        "instagram_changed",
        "Instagram's answer was not understood: its API may have changed",
    ),
    InstagramFailed: (502, "instagram_failed", "Instagram answered with an error of its own"),
    MediaIncomplete: (502, "media_incomplete", "A file of the post could not be downloaded whole"),
    MediaUnexpected: (502, "media_unexpected", "A file of the post is not of the promised type"),
    FFmpegMissing: (
        502,
        "ffmpeg_missing",
        "Instagram gives this video and its sound separately: install ffmpeg, which joins them",
    ),
    InstagramUnreachable: (503, "instagram_unreachable", "Instagram could not be reached"),
    DeadlineExceeded: (503, "deadline_exceeded", "The post was not downloaded in time"),
    ServerFull: (503, "server_full", "Too many posts are waiting: try again later"),
    Busy: (503, "busy", "A database of the service is in use: try again in a moment"),
    MediaFolderGone: (503, "media_folder_gone", "The media folder is gone: is its disk there?"),
    JobsFull: (503, "jobs_full", "Too many jobs are unfinished: try again later"),
    JobsUnreachable: (503, "jobs_unreachable", "Jobs cannot be reached for now: try again later"),
    DiskFull: (507, "disk_full", "The disk is full: nothing more can be stored for now"),
    DiskReadOnly: (507, "disk_read_only", "The disk is read-only: nothing can be stored for now"),
}
"""Exception type to (status, code, message); a subclass without an entry gets its base's.

A code is stable; a message may be reworded, so nothing depends on its wording."""


def response_to(error: Exception) -> tuple[int, str, str]:
    """The status, code and message that clients get; :data:`INTERNAL_ERROR` for a fault of ours."""
    known = (RESPONSES[base] for base in type(error).__mro__ if base in RESPONSES)
    status, code, message = next(known, INTERNAL_ERROR)
    detail = getattr(error, "detail", "")
    return status, code, f"{message}: {detail}" if detail else message

"""The events of one job, read once for all streams."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from scrapper.handlers.job_feeds import JobFeeds
from scrapper.jobs.model import Job, new_job


class Jobs:
    """Shows a job at each look, between which it changes ten times, and notes the pauses."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def follow(self, job: Job, pause: Callable[[], float]) -> AsyncIterator[Job]:
        for _ in range(3):
            for _ in range(10):
                post = job.posts[0]
                job.posts[0] = replace(post, bytes_done=post.bytes_done + 1)
                job.note(0, job.version + 1)
            yield job
            self.pauses.append(pause())
        job.posts[0] = job.posts[0].done(31)
        job.note(0, job.version + 1)
        yield job


async def test_a_job_is_shown_at_most_five_times_a_second() -> None:
    jobs: Any = Jobs()
    job = new_job(["https://www.instagram.com/p/abcde/"], max_url_length=512)
    async with JobFeeds(jobs).following(job) as feed:
        text = b"".join([piece async for piece in feed.after(-1)])
        assert jobs.pauses
        assert min(jobs.pauses) >= 0.2
        # However often it changed.
        assert text.count(b"event: post\r\n") <= len(jobs.pauses) + 1
        assert text.count(b"event: end\r\n") == 1


async def test_a_thousand_streams_of_a_job_get_fewer_looks() -> None:
    jobs: Any = Jobs()
    job = new_job(["https://www.instagram.com/p/abcde/"], max_url_length=512)
    feeds = JobFeeds(jobs)
    async with feeds.following(job) as feed:
        feed.followers += 999
        assert [piece async for piece in feed.after(-1)]
        assert min(jobs.pauses) >= 0.6
        feed.followers -= 999

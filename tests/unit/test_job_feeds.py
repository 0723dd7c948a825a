"""The events of a job, read once for all of its streams."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from scrapper.handlers.job_feeds import JobFeeds
from scrapper.jobs.model import Job, new_job


class Jobs:
    """An engine whose job changes ten times between two polls; records the pauses."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def follow(self, job: Job, pause: Callable[[], float]) -> AsyncIterator[Job]:
        for _ in range(3):
            for _ in range(10):
                post = job.posts[0]
                job.posts[0] = replace(post, bytes_done=post.bytes_done + 1)
                job.record_version(0, job.version + 1)
            yield job
            self.pauses.append(pause())
        job.posts[0] = job.posts[0].done(31)
        job.record_version(0, job.version + 1)
        yield job


async def test_a_job_is_polled_at_most_five_times_a_second() -> None:
    jobs: Any = Jobs()
    job = new_job(["https://www.instagram.com/p/abcde/"], max_url_length=512)
    async with JobFeeds(jobs).following(job) as feed:
        text = b"".join([piece async for piece in feed.after(-1)])
        assert jobs.pauses
        assert min(jobs.pauses) >= 0.2
        # At most one event for each poll, although the job changed ten times in between.
        assert text.count(b"event: post\r\n") <= len(jobs.pauses) + 1
        assert text.count(b"event: end\r\n") == 1


async def test_a_job_with_a_thousand_streams_is_polled_less_often() -> None:
    jobs: Any = Jobs()
    job = new_job(["https://www.instagram.com/p/abcde/"], max_url_length=512)
    feeds = JobFeeds(jobs)
    async with feeds.following(job) as feed:
        feed.followers += 999
        assert [piece async for piece in feed.after(-1)]
        assert min(jobs.pauses) >= 0.6
        feed.followers -= 999

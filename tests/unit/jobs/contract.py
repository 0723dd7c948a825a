"""The tests that every job store must pass."""

from dataclasses import replace
from typing import Any

import pytest

from scrapper.errors import JobsFull, TooManyJobs
from scrapper.jobs.model import Job, JobFilter, JobPost, new_job, unix_time
from scrapper.library.post import Preference

__all__ = ["MAX_AGE", "StoreContract", "batch", "cancelled"]

REEL = "https://www.instagram.com/reel/reel-{}/"
MAX_JOBS = 4
MAX_AGE = 60.0


def batch(posts: int, client: str = "192.0.2.1", **options: Any) -> Job:
    urls = [REEL.format(number) for number in range(posts)]
    return new_job(urls, max_url_length=512, client=client, **options)


def cancelled(post: JobPost) -> JobPost | None:
    return post.cancelled() if post.can_be_cancelled else None


class StoreContract:
    """Tests of the fixture ``store``, which has the plugin ``one``.

    The store has room for four jobs, which expire after ``MAX_AGE`` seconds.
    """

    async def queued(self, store: Any) -> set[tuple[str, int]]:
        """Return the queued posts, each as the job's ID and the post's index."""
        raise NotImplementedError

    async def finish(self, store: Any, job: Job) -> None:
        for index, post in enumerate(job.posts):
            assert await store.save_post(job.id, index, post.done(10))

    async def found(self, store: Any, job: Job) -> Job:
        found = await store.get(job.id)
        assert found is not None
        return found  # type: ignore[no-any-return]

    async def test_a_new_job_is_stored_and_its_posts_are_queued(self, store: Any) -> None:
        preference = Preference("best", 8_000_000)
        job = batch(3, keep=True, webhook="https://example.com/", preference=preference)
        await store.add(job)
        found = await self.found(store, job)
        assert found.posts == batch(3).posts
        assert (found.client, found.keep, found.webhook) == (job.client, True, job.webhook)
        assert (found.created_at, found.preference) == (job.created_at, preference)
        assert await self.queued(store) == {(job.id, index) for index in range(3)}

    async def test_an_unknown_job_is_neither_found_nor_changed(self, store: Any) -> None:
        job = batch(1)
        assert await store.get(job.id) is None
        assert await store.find(job.id, 0) is None
        assert not await store.change(job, cancelled)
        assert not await store.refresh(job)
        assert not await store.save_post(job.id, 0, job.posts[0].started())

    async def test_a_post_is_found_with_the_options_of_its_job(self, store: Any) -> None:
        job = batch(2, keep=True, preference=Preference("best", 8_000_000))
        await store.add(job)
        found, post = await store.find(job.id, 1)
        assert (found.id, found.created_at, found.keep) == (job.id, job.created_at, True)
        assert found.preference == job.preference
        assert post == job.posts[1]

    async def test_a_second_outcome_of_a_post_is_ignored(self, store: Any) -> None:
        job = batch(1)
        await store.add(job)
        assert await store.save_post(job.id, 0, job.posts[0].started())
        assert await store.save_post(job.id, 0, job.posts[0].done(10))
        assert not await store.save_post(job.id, 0, job.posts[0].failed(500, "x", "x"))
        found = await self.found(store, job)
        assert (found.state, found.posts[0].state) == ("done", "done")

    async def test_changes_are_numbered_in_order(self, store: Any) -> None:
        job = batch(3)
        await store.add(job)
        seen = await self.found(store, job)
        before = seen.version
        await store.save_post(job.id, 2, job.posts[2].started())
        await store.save_post(job.id, 0, job.posts[0].done(10))
        assert await store.refresh(seen)
        assert [change["index"] for _, change in seen.changes(before)] == [2, 0]
        numbers = [number for number, _ in seen.changes(0)]
        assert numbers == sorted(set(numbers))
        assert seen.changes(seen.version) == []

    async def test_a_change_does_not_affect_other_posts(self, store: Any) -> None:
        job = batch(3)
        await store.add(job)
        await store.save_post(job.id, 0, job.posts[0].done(10))
        assert await store.change(job, cancelled)
        assert [post.state for post in job.posts] == ["done", "cancelled", "cancelled"]
        assert job.state == "cancelled"

    async def test_a_change_can_queue_posts_again(self, store: Any) -> None:
        job = batch(2)
        await store.add(job)
        await self.queued(store)
        await store.change(job, cancelled)
        await store.change(job, JobPost.retried, queue=True)
        assert job.state == "running"
        assert {(job.id, 0), (job.id, 1)} <= await self.queued(store)

    async def test_a_waiting_post_has_the_time_of_its_next_try(self, store: Any) -> None:
        job = batch(2)
        await store.add(job)
        assert not await store.has_waiting()
        await store.hold(50.0)
        await store.wait(job, 0, job.posts[0])
        await store.wait(job, 1, job.posts[1], 100.0)
        assert await store.has_waiting()
        behind, limited = (await self.found(store, job)).posts
        assert [behind.state, limited.state] == ["waiting", "waiting"]
        assert behind.waiting_since is None
        assert limited.waiting_since is not None
        # No post leaves the backlog before the longest limit is over.
        assert behind.next_try_at is not None
        assert unix_time(behind.next_try_at) > unix_time(limited.waiting_since) + 90

    async def test_jobs_are_limited_in_total_and_per_client(self, store: Any) -> None:
        for number in range(MAX_JOBS):
            await store.add(batch(1, client=f"192.0.2.{number}"))
            with pytest.raises((TooManyJobs, JobsFull)):
                await store.add(batch(1, client=f"192.0.2.{number}"))
        with pytest.raises(JobsFull):
            await store.add(batch(1, client="192.0.2.9"))
        with pytest.raises(JobsFull):
            await store.check_room("192.0.2.9")

    async def test_the_oldest_finished_job_is_dropped_for_a_new_one(self, store: Any) -> None:
        jobs = [batch(1, client=f"192.0.2.{number}") for number in range(MAX_JOBS + 1)]
        for age, job in enumerate(reversed(jobs)):
            job.created_at -= age
        for job in jobs[:MAX_JOBS]:
            await store.add(job)
        for job in jobs[1:3]:
            await self.finish(store, job)
            for finished in await store.unreported("one"):
                await store.record_reported("one", finished)
        await store.add(jobs[-1])
        kept = [await store.get(job.id) is not None for job in jobs]
        assert kept == [True, False, True, True, True]

    async def test_an_unreported_job_is_not_dropped(self, store: Any) -> None:
        jobs = [batch(1, client=f"192.0.2.{number}") for number in range(MAX_JOBS + 1)]
        for age, job in enumerate(reversed(jobs)):
            job.created_at -= age
        for job in jobs[:MAX_JOBS]:
            await store.add(job)
        for job in jobs[:2]:
            await self.finish(store, job)
        _, second = await store.unreported("one")
        await store.record_reported("one", second)
        await store.add(jobs[-1])
        kept = [await store.get(job.id) is not None for job in jobs]
        assert kept == [True, False, True, True, True]

    async def test_a_job_expires_only_after_it_is_reported(self, store: Any) -> None:
        job = batch(1)
        job.created_at -= 2 * MAX_AGE
        await store.add(job)
        await self.finish(store, job)
        assert await store.get(job.id) is not None
        [finished] = await store.unreported("one")
        await store.record_reported("one", finished)
        assert await store.get(job.id) is None

    async def test_each_end_of_a_job_is_reported_once(self, store: Any) -> None:
        job = batch(1)
        await store.add(job)
        assert await store.unreported("one") == []
        await self.finish(store, job)
        [first] = await store.unreported("one")
        assert first.response.posts[0].state == "done"
        await store.record_reported("one", first)
        assert await store.unreported("one") == []

    async def test_a_retried_job_is_reported_when_it_ends_again(self, store: Any) -> None:
        job = batch(1)
        await store.add(job)
        await store.change(job, cancelled)
        [first] = await store.unreported("one")
        assert await store.is_unreported("one", first)
        await store.change(job, JobPost.retried, queue=True)
        assert not await store.is_unreported("one", first)
        assert await store.unreported("one") == []
        await self.finish(store, job)
        [second] = await store.unreported("one")
        ends = [await store.is_unreported("one", end) for end in (first, second)]
        assert ends == [False, True]
        # Recording that the first end was reported does not affect the second.
        await store.record_reported("one", first)
        assert [it.response.posts[0].state for it in await store.unreported("one")] == ["done"]
        await store.record_reported("one", second)
        assert not await store.is_unreported("one", second)
        assert await store.unreported("one") == []

    async def test_a_job_without_valid_links_ends_at_once(self, store: Any) -> None:
        job = new_job(["https://example.com/"], max_url_length=512)
        await store.add(job)
        assert [it.response.id for it in await store.unreported("one")] == [job.id]
        assert (await self.found(store, job)).state == "done"
        assert await self.queued(store) == set()

    async def test_progress_of_a_running_post_is_stored(self, store: Any) -> None:
        job = batch(1)
        await store.add(job)
        running = replace(job.posts[0].started(), bytes_done=5, bytes_total=9)
        assert await store.save_post(job.id, 0, running)
        assert (await self.found(store, job)).posts == [running]

    async def test_jobs_are_listed_in_pages_newest_first(self, store: Any) -> None:
        jobs = [batch(1, client=f"192.0.2.{number}") for number in range(MAX_JOBS)]
        for age, job in enumerate(jobs):
            job.created_at -= age
            await store.add(job)
        first = await store.newest(3, None, JobFilter())
        rest = await store.newest(3, first[-1].cursor, JobFilter())
        assert [job.id for job in (*first, *rest)] == [job.id for job in jobs]
        assert first[0].posts == jobs[0].posts

    async def test_jobs_are_listed_by_owner_and_state(self, store: Any) -> None:
        jobs = [batch(1, client=f"192.0.2.{it}", owner="anna" if it % 2 else None) for it in (1, 2)]
        for job in jobs:
            await store.add(job)
        await store.change(jobs[1], cancelled)

        async def found(owner: str | None, state: Any = None) -> set[str]:
            return {it.id for it in await store.newest(9, None, JobFilter(owner, state))}

        assert await found("anna") == {jobs[0].id}
        assert await found("bert") == set()
        assert await found(None) == {job.id for job in jobs}
        assert await found(None, "running") == {jobs[0].id}
        assert await found(None, "cancelled") == {jobs[1].id}
        assert await found("anna", "done") == set()

    async def test_a_finished_job_can_be_forgotten(self, store: Any) -> None:
        job = batch(1, webhook="https://example.com/")
        await store.add(job)
        assert not await store.forget(job)
        await self.finish(store, job)
        assert await store.forget(job)
        assert await store.get(job.id) is None
        assert not await store.refresh(job)
        assert not await store.change(job, JobPost.retried, queue=True)
        assert await store.newest(9, None, JobFilter()) == []
        # The end of the job is still reported to plugins.
        assert [it.response.id for it in await store.unreported("one")] == [job.id]
        assert not await store.forget(batch(1))

    async def test_changed_jobs_are_listed(self, store: Any) -> None:
        job, other = batch(2, owner="anna"), batch(1, client="192.0.2.2")
        seen = (await store.changed(0)).number

        async def changed() -> list[tuple[str, str | None]]:
            nonlocal seen
            seen, jobs = await store.changed(seen)
            return list(jobs)

        await store.add(job)
        await store.add(other)
        assert await changed() == [(other.id, None), (job.id, "anna")]
        assert await changed() == []
        await store.save_post(job.id, 0, job.posts[0].started())
        assert await changed() == [(job.id, "anna")]
        await store.change(job, cancelled)
        await store.save_post(job.id, 0, job.posts[0].done(1))
        assert await changed() == [(job.id, "anna")]
        assert await store.forget(job)
        assert await changed() == [(job.id, "anna")]

    async def test_dropped_jobs_are_listed_as_changed(self, store: Any) -> None:
        jobs = [batch(1, f"192.0.2.{number}", owner="anna") for number in range(MAX_JOBS + 1)]
        for job in jobs[:MAX_JOBS]:
            await store.add(job)
        await self.finish(store, jobs[0])
        for finished in await store.unreported("one"):
            await store.record_reported("one", finished)
        seen = (await store.changed(0)).number
        await store.add(jobs[-1])
        changed = (await store.changed(seen)).jobs
        assert set(changed) == {(jobs[0].id, "anna"), (jobs[-1].id, "anna")}

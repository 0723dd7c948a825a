"""The journal of the latest events, read by streams at their own pace."""

from scrapper.handlers.journal import Journal, Pieces


def ids(text: bytes) -> list[str]:
    return [line[4:].decode() for line in text.splitlines() if line.startswith(b"id: ")]


def data(text: bytes) -> list[str]:
    return [line[6:].decode() for line in text.splitlines() if line.startswith(b"data: ")]


def filled(number: int) -> Journal:
    journal = Journal()
    for index in range(number):
        journal.add("job", b"%d" % index)
    return journal


def test_a_reader_resumes_after_the_last_event_it_received() -> None:
    journal = filled(3)
    text, last = journal.after(0, None)
    second = journal.number_of(ids(text)[1])
    assert second == 2
    assert data(journal.after(second, None)[0]) == ["2"]
    assert journal.after(last, None) == (b"", 3)


def test_no_reader_resumes_after_an_unknown_event_id() -> None:
    [event_id] = ids(filled(1).after(0, None)[0])
    journal = filled(1)
    assert journal.number_of(event_id) is None
    for text in ("", "x", "-1", f"{event_id}0", "9" * 5000, "\u00b9"):
        assert journal.number_of(text) is None


def test_a_stream_resumes_after_a_reset() -> None:
    journal = filled(2)
    [event_id] = ids(journal.reset())
    assert journal.number_of(event_id) == 2


def test_old_events_are_dropped_by_size() -> None:
    journal = Journal()
    for _ in range(100):
        journal.add("job", bytes(100_000))
    assert not journal.can_resume_after(0)
    assert journal.can_resume_after(99)
    place = next(place for place in range(100) if journal.can_resume_after(place))
    pieces = []
    while place < journal.last:
        text, place = journal.after(place, None)
        pieces.append(text)
    assert 3_800_000 < sum(map(len, pieces)) <= 4_000_000
    assert ids(pieces[-1]) == ids(journal.reset())


def test_a_slow_reader_gets_small_pieces() -> None:
    journal = Journal()
    for _ in range(30):
        journal.add("job", b"x" * 10_000)
    journal.add("job", b"y" * 100_000)
    number, sizes = 0, []
    while number < journal.last:
        text, number = journal.after(number, None)
        sizes.append(len(text))
    assert max(sizes[:-1]) <= 64 * 1024
    assert sizes[-1] > 100_000


def test_private_events_are_only_for_their_owner() -> None:
    journal = Journal()
    journal.add("job", b"anna's", private=True, owner="anna")
    journal.add("job", b"no owner", private=True)
    journal.add("post", b"public")
    assert data(journal.after(0, None)[0]) == ["anna's", "no owner", "public"]
    assert data(journal.after(0, "anna")[0]) == ["anna's", "public"]
    assert data(journal.after(0, "bert")[0]) == ["public"]
    assert journal.after(0, "bert")[1] == 3


def test_no_reader_resumes_after_a_restart() -> None:
    journal = filled(3)
    journal.restart()
    assert not journal.can_resume_after(3)
    assert journal.can_resume_after(journal.last)


def test_readers_of_the_same_events_share_a_piece() -> None:
    journal = filled(3)
    assert journal.after(1, None)[0] is journal.after(1, None)[0]


def test_the_cache_of_pieces_is_bounded() -> None:
    pieces, rendered = Pieces(), []

    def render() -> tuple[bytes, int]:
        rendered.append(bytes(64_000))
        return rendered[-1], 1

    for number in [*range(200), *range(199, -1, -1)]:
        pieces.get(number, render)
    # About 60 of the pieces were still cached.
    assert 320 < len(rendered) < 350

"""The latest events, for streams that read them at their own pace."""

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


def test_a_reader_goes_on_after_the_last_event_seen() -> None:
    journal = filled(3)
    text, place = journal.after(0, None)
    second = journal.place_of(ids(text)[1])
    assert second == 2
    assert data(journal.after(second, None)[0]) == ["2"]
    assert journal.after(place, None) == (b"", 3)


def test_an_id_of_another_process_leads_nowhere() -> None:
    [event_id] = ids(filled(1).after(0, None)[0])
    journal = filled(1)
    assert journal.place_of(event_id) is None
    for text in ("", "x", "-1", f"{event_id}0", "9" * 5000, "\u00b9"):
        assert journal.place_of(text) is None


def test_a_stream_resumes_after_a_reset() -> None:
    journal = filled(2)
    [event_id] = ids(journal.reset())
    assert journal.place_of(event_id) == 2


def test_old_events_are_dropped_by_size() -> None:
    journal = Journal()
    for _ in range(100):
        journal.add("job", bytes(100_000))
    assert not journal.goes_on_from(0)
    assert journal.goes_on_from(99)
    place = next(place for place in range(100) if journal.goes_on_from(place))
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
    place, sizes = 0, []
    while place < journal.last:
        text, place = journal.after(place, None)
        sizes.append(len(text))
    assert max(sizes[:-1]) <= 64 * 1024
    assert sizes[-1] > 100_000


def test_private_events_are_for_their_owner() -> None:
    journal = Journal()
    journal.add("job", b"anna's", private=True, owner="anna")
    journal.add("job", b"nobody's", private=True)
    journal.add("post", b"all's")
    assert data(journal.after(0, None)[0]) == ["anna's", "nobody's", "all's"]
    assert data(journal.after(0, "anna")[0]) == ["anna's", "all's"]
    assert data(journal.after(0, "bert")[0]) == ["all's"]
    assert journal.after(0, "bert")[1] == 3


def test_nobody_resumes_after_a_new_beginning() -> None:
    journal = filled(3)
    journal.begin_anew()
    assert not journal.goes_on_from(3)
    assert journal.goes_on_from(journal.last)


def test_readers_of_the_same_events_share_a_piece() -> None:
    journal = filled(3)
    assert journal.after(1, None)[0] is journal.after(1, None)[0]


def test_pieces_for_every_beginning_do_not_pile_up() -> None:
    pieces, made = Pieces(), []

    def make() -> tuple[bytes, int]:
        made.append(bytes(64_000))
        return made[-1], 1

    for place in [*range(200), *range(199, -1, -1)]:
        pieces.get(place, make)
    # About the latest 60 were there still.
    assert 320 < len(made) < 350

"""What a client gets for an exception."""

from scrapper.errors import (
    INTERNAL_ERROR,
    RESPONSES,
    MediaTooLarge,
    PostNotFound,
    ScrapeError,
    response_to,
)


def test_error_without_an_entry_gets_that_of_its_base() -> None:
    class PostArchived(PostNotFound):
        pass

    assert response_to(PostArchived()) == RESPONSES[PostNotFound]


def test_error_nobody_foresaw_is_an_internal_one() -> None:
    assert response_to(OSError("/a/secret/path")) == INTERNAL_ERROR
    assert response_to(ScrapeError()) == INTERNAL_ERROR


def test_too_large_says_how_small_the_smallest_is() -> None:
    assert response_to(MediaTooLarge(12_345_678))[2].endswith("the smallest is 12.35 MB")
    assert response_to(MediaTooLarge()) == RESPONSES[MediaTooLarge]

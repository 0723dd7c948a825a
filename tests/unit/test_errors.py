"""The response that a client gets for an exception."""

from scrapper.errors import (
    INTERNAL_ERROR,
    RESPONSES,
    MediaTooLarge,
    PostNotFound,
    ScrapeError,
    response_to,
)


def test_error_without_an_entry_uses_its_base_class_entry() -> None:
    class PostArchived(PostNotFound):
        pass

    assert response_to(PostArchived()) == RESPONSES[PostNotFound]


def test_unexpected_exception_is_an_internal_error() -> None:
    assert response_to(OSError("/a/secret/path")) == INTERNAL_ERROR
    assert response_to(ScrapeError()) == INTERNAL_ERROR


def test_media_too_large_message_states_the_smallest_size() -> None:
    assert response_to(MediaTooLarge(12_345_678))[2].endswith("the smallest is 12.35 MB")
    assert response_to(MediaTooLarge()) == RESPONSES[MediaTooLarge]

"""Share links: opening one, without following it, gives the post's URL."""

from urllib.parse import urljoin

from scrapper.instagram.context import WWW, Context
from scrapper.instagram.page_refusal import refusal_of_page, route_of
from scrapper.instagram.verdict import Reason, Refused

__all__ = ["open_share_link"]


def open_share_link(context: Context, path: str) -> str:
    """The URL that the share link *path* redirects to, whatever it is.

    Raises:
        Refused: Instagram does not redirect, or to a login form.
        requests.RequestException: no answer came.
    """
    response = context.view(path)
    refused = refusal_of_page(
        response, with_session=context.is_logged_in, route=route_of(response.content)
    )
    if response.is_redirect and refused is not None and refused.reason is Reason.CHANGED:
        return urljoin(WWW + path, response.headers["Location"])
    raise refused or Refused(Reason.CHANGED)

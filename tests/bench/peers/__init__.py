"""The programs that the service is compared with, each as short as possible."""

from functools import partialmethod
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

# Behind an HTTP proxy, urllib3 does not set TCP_NODELAY, so the kernel delays small packets. This
# would slow the peers down only here, because only the stand-in for Instagram needs a proxy.
_manager: Any = partialmethod(
    HTTPAdapter.proxy_manager_for, socket_options=HTTPConnection.default_socket_options
)
HTTPAdapter.proxy_manager_for = _manager  # type: ignore[method-assign]

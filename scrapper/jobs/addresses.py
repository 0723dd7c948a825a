"""Distinguishes public internet addresses from all others."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["is_public"]

# IANA's IPv4 Special-Purpose Address Registry, and multicast (RFC 5771).
_SPECIAL_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# The global unicast networks in IANA's IPv6 Special-Purpose Address Registry.
_SPECIAL_V6 = tuple(
    map(
        IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
# IPv4-mapped, IPv4-translated, IPv4-compatible (RFC 4291, RFC 6052) and NAT64 addresses. Their last
# 32 bits are the IPv4 address.
_EMBEDDING_V4 = tuple(
    map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96"))
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: the 32 bits before the IPv4 address.


def is_public(address: str) -> bool:
    """Return whether *address* is on the public internet.

    An IPv6 address that embeds an IPv4 address is public if the IPv4 address is. Any other IPv6
    address is public if it is global unicast and not in the Special-Purpose Address Registry.

    Raises:
        ValueError: *address* is not an IP address.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _SPECIAL_V4)
    embedded = _embedded_v4(ip)
    if embedded is not None:
        return is_public(str(embedded))
    return ip in _GLOBAL_UNICAST and not any(ip in network for network in _SPECIAL_V6)


def _embedded_v4(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that *ip* embeds, or None if it embeds none."""
    if ip.sixtofour or ip.teredo:
        return ip.sixtofour or (ip.teredo and ip.teredo[1])
    number = int(ip)
    is_isatap = number >> 32 & 0xFFFFFFFF in _ISATAP
    if is_isatap or any(ip in network for network in _EMBEDDING_V4):
        return IPv4Address(number & 0xFFFFFFFF)
    return None

"""Addresses, ranges, MAC addresses, URLs. Each function checks one and returns it in one notation."""

import ipaddress
import re
from urllib.parse import urlsplit


def mac_address(text: str) -> str:
    """Lower case with colons, whatever the notation: `AA-BB-…`, `aabb.ccdd.ee0f`, `AABBCCDDEE0F`."""
    digits = re.sub(r"[:.-]", "", text.strip()).lower()
    strange = next((character for character in digits if character not in "0123456789abcdef"), None)
    if strange:
        raise ValueError(f"{text!r} is not a MAC address: {strange!r} is not a hexadecimal digit")
    if len(digits) != 12:
        raise ValueError(
            f"{text!r} is not a MAC address: 12 hexadecimal digits are wanted, it has {len(digits)}"
        )
    if int(digits[:2], 16) & 1:
        raise ValueError(f"{text!r} is a multicast address; the first byte of a card's MAC address is even")
    if set(digits) == {"0"}:
        raise ValueError(f"{text!r} is no card's MAC address")
    return ":".join(digits[index : index + 2] for index in range(0, 12, 2))


def cidr(text: str) -> str:
    """An IPv4 or IPv6 range; bits behind the prefix must be zero."""
    address, slash, length = text.strip().partition("/")
    if not slash:
        raise ValueError(f"{text!r} has no prefix length; a range is like 10.1.0.0/24")
    width = ipaddress.ip_address(ip_address(address)).max_prefixlen
    if not length.isdecimal() or int(length) > width:
        raise ValueError(f"{text!r}: {length!r} is not a prefix length, 0 to {width}")
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    if network.network_address != ipaddress.ip_address(address):
        raise ValueError(f"{text!r} has bits set behind its prefix; did you mean {network}?")
    return str(network)


def ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def url(text: str) -> str:
    """http or https in lower case, with a host; without the slash at its end, so that paths can be appended."""
    if strange := re.search(r"[\s\"'<>\\^`{|}]", text):
        raise ValueError(f"{text!r} is not a URL: {strange.group()!r} is not allowed in it")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{text!r} is not a URL; http://host[:port] or https://host[:port] is wanted")
    if parts.username or parts.password:
        raise ValueError("a URL with a user or a password; secrets do not belong into a site file")
    return f"{parts.scheme}{text[len(parts.scheme) :].rstrip('/')}"


def file_url(text: str) -> str:
    """A URL of a file, which is known by the end of its path."""
    checked = url(text)
    if not urlsplit(checked).path:
        raise ValueError(f"{text!r} names no file; a URL like {checked}/debian-12.raw is wanted")
    return checked


def boot_url(text: str) -> str:
    """A URL that ends up among the kernel arguments, where BSS cuts out what follows `initrd`."""
    if "initrd" in text:
        raise ValueError(
            f"{text!r} contains 'initrd'; BSS cuts kernel arguments at that word, use another name"
        )
    return url(text)


def mirror_url(text: str) -> str:
    """A URL that nodes get in a list with others, as one kernel argument."""
    if "," in text:
        raise ValueError(f"{text!r} contains ','; nodes get all mirrors in one list, separated by commas")
    return boot_url(text)


def endpoint_url(text: str) -> str:
    """A URL of a service: scheme, host and port, no path."""
    checked = url(text)
    parts = urlsplit(checked)
    bare = f"{parts.scheme}://{parts.netloc}"
    if checked != bare:
        raise ValueError(f"{text!r} has a path; only {bare} is wanted")
    return checked


def host_port(text: str) -> str:
    """`10.77.0.1:8080`"""
    address, _, port = text.rpartition(":")
    if not address or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not an address and a port like 10.77.0.1:8080")
    return f"{ip_address(address)}:{int(port)}"

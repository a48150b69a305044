"""How LiteLLM's HTTP client reaches the replicas behind a Service, which chooses one of them per connection.

Mounted beside llm_gateway_server.py. A replica whose node lost power takes no connection and refuses none; LiteLLM
would wait for it as long as an answer may take, since it has one number for both.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Handle = Callable[[Any, httpx.Request], Awaitable[httpx.Response]]

CONNECT_SECONDS = 2.0  # a node that lives takes a connection within milliseconds
CONNECT_TRIES = 4  # each may be given to another replica
# What is open to a node that is gone ends after 20 s of silence of its kernel; an answer may be silent for much longer.
KEEP_ALIVE = {
    "AIOHTTP_SO_KEEPALIVE": "True",
    "AIOHTTP_TCP_KEEPIDLE": "5",
    "AIOHTTP_TCP_KEEPINTVL": "5",
    "AIOHTTP_TCP_KEEPCNT": "3",
}


def install() -> None:
    """Before LiteLLM makes its first client."""
    os.environ.update(KEEP_ALIVE)
    from litellm.llms.custom_httpx.aiohttp_transport import (  # type: ignore[import-not-found]
        LiteLLMAiohttpTransport,
    )

    LiteLLMAiohttpTransport.handle_async_request = one_connection_per_request(
        LiteLLMAiohttpTransport.handle_async_request
    )


def one_connection_per_request(handle: Handle) -> Handle:
    """Wraps a transport's `handle_async_request`.

    No connection is kept: a kept one goes on to a replica that is about to end, which answers it with nothing
    (finish_reason `abort`), and all requests of this gateway to the same replica.
    """

    async def handled(transport: Any, request: httpx.Request) -> httpx.Response:
        request.headers["connection"] = "close"
        waits = request.extensions.get("timeout", {})
        capped = min(CONNECT_SECONDS, waits.get("connect") or CONNECT_SECONDS)
        request.extensions = {**request.extensions, "timeout": {**waits, "connect": capped}}
        for _ in range(CONNECT_TRIES - 1):
            try:
                return await handle(transport, request)
            except (httpx.ConnectTimeout, httpx.ConnectError):
                continue
        return await handle(transport, request)

    return handled

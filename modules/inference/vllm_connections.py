"""One answer per connection: middleware of vLLM, mounted into its pods and named in its arguments.

A Service chooses a replica per connection. One that a client keeps outlives the replica's place in the Service: what is
sent over it while the replica drains is answered at once and with nothing (200, finish_reason `abort`), and until then
all requests of that client go to one replica. A new connection costs a fraction of a millisecond inside a cluster.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class CloseAfterAnswer:
    """Says so in the answer, so that no client sends another request while the connection is being closed."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, closing if scope["type"] == "http" else send)

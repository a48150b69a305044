"""HTTPS for nodes that boot: who am I, and a certificate for that name.

`GET /v1/node` gives `{"xname", "address"}` of whoever asks; `POST /v1/certificate`, with a request in PEM as its body,
gives `{"certificate"}`. In an RKE2 cluster `GET /v1/rke2`, asked with that certificate as the client's own, gives
`{"agent_token", "node_password"}`. Where the provisioner does not note who fetches a boot script, a node first says
that it boots, with an empty `POST /v1/boot`, and is told `{"xname", "booted"}`, in Unix seconds. A refusal is
`{"code", "reason"}`, see refusals.py. Each decision is one JSON line of the log.
"""

import hashlib
import json
import os
import ssl
import time
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from modules.nodes.node_identity_service.boot_notices import Notices
from modules.nodes.node_identity_service.cluster import Cluster, api_of_this_machine
from modules.nodes.node_identity_service.decision import KUBELET_PORT, Rules
from modules.nodes.node_identity_service.peers import PEERS, WithPeer
from modules.nodes.node_identity_service.provisioner import Answers, FetchedScripts, Provisioner
from modules.nodes.node_identity_service.refusals import (
    RETRY_AFTER,
    STATUS,
    TOO_LARGE,
    TOO_OFTEN,
    TRY_AGAIN,
    Refused,
)
from modules.nodes.node_identity_service.rke2 import Rke2

LARGEST_BODY = 8 * 1024  # bytes; a request of a P-256 key has about 500
LARGEST_LOAD = 256  # connections at once, beyond which the answer is 503


class Limiter:
    """Requests per address and minute, counted by each replica for itself."""

    def __init__(self, per_minute: int) -> None:
        self._rate = parse(f"{per_minute}/minute")
        # Kept here too: Debian's version of the library only refers to it weakly.
        self._storage = MemoryStorage()
        self._seen = MovingWindowRateLimiter(self._storage)

    def count(self, address: str) -> None:
        """Raises: Refused where the address has used up its requests."""
        if not self._seen.hit(self._rate, address):
            raise Refused(TOO_OFTEN, f"{address} asks more often than {self._rate}")


def build(rules: Rules, limiter: Limiter, rke2: Rke2 | None) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(Refused)
    async def refused(request: Request, no: Refused) -> JSONResponse:
        _log(request, "refused", code=no.code, reason=no.reason)
        after = {"Retry-After": str(RETRY_AFTER[no.code])} if no.code in RETRY_AFTER else None
        return JSONResponse({"code": no.code, "reason": no.reason}, STATUS[no.code], after)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        _log(request, "failed", reason=f"{type(error).__name__}: {error}")
        return JSONResponse({"code": TRY_AGAIN, "reason": "the service failed; its log says how"}, 500)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/node")
    async def node(request: Request) -> dict[str, str]:
        address = _address(request)
        limiter.count(address)
        return {"xname": await rules.provisioner.xname(address), "address": address}

    @app.post("/v1/certificate")
    async def certificate(request: Request) -> dict[str, str]:
        address = _address(request)
        limiter.count(address)
        pem = await _body(request)
        granted = await rules.decide(address, pem)
        digest = hashlib.sha256(granted.certificate.encode()).hexdigest()
        _log(request, "granted", xname=granted.xname, boot=granted.epoch, certificate=digest)
        return {"certificate": granted.certificate}

    if isinstance(rules.boots, Notices):
        _take_notices(app, rules, limiter, rules.boots)
    if rke2 is not None:
        _hand_out(app, rules, limiter, rke2)
    return app


def _take_notices(app: FastAPI, rules: Rules, limiter: Limiter, notices: Notices) -> None:
    @app.post("/v1/boot")
    async def boot(request: Request) -> dict[str, str | int]:
        address = _address(request)
        limiter.count(address)
        xname = await rules.starting(address)
        booted = await notices.note(xname)
        _log(request, "noted", xname=xname, boot=booted)
        return {"xname": xname, "booted": booted}


def _hand_out(app: FastAPI, rules: Rules, limiter: Limiter, rke2: Rke2) -> None:
    @app.get("/v1/rke2")
    async def secrets(request: Request) -> dict[str, str]:
        assert request.client is not None
        address = _address(request)
        limiter.count(address)
        xname = await rules.recognise(address, PEERS.get((address, request.client.port), ()))
        found = rke2.secrets(xname)
        _log(request, "handed-out", xname=xname)
        return found


async def _body(request: Request) -> str:
    """Never more of it in memory than is allowed, whatever its length is said to be."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise Refused(TOO_LARGE, f"a request has at most {LARGEST_BODY} bytes")
    return body.decode(errors="replace")


def _address(request: Request) -> str:
    # Of the connection: headers such as X-Forwarded-For are anybody's to write.
    assert request.client is not None
    return request.client.host


def _log(request: Request, decision: str, **facts: object) -> None:
    about = {"time": time.time(), "address": _address(request), "path": request.url.path}
    print(json.dumps({**about, "decision": decision, **facts}), flush=True)


def main() -> None:
    """Serve with the settings of the environment, which modules/nodes/node_identity.py writes, until ended."""
    given = os.environ
    outside = httpx.AsyncClient(timeout=5, limits=httpx.Limits(max_connections=32))
    answers = Answers(outside, given.get("PROVISIONER_TOKEN_FILE"))
    cluster = Cluster(api_of_this_machine(), given["NAMESPACE"], int(given["CERTIFICATE_SECONDS"]))
    rules = Rules(
        provisioner=Provisioner(answers, given["SMD"]),
        boots=FetchedScripts(answers, given["BSS"]) if "BSS" in given else Notices(cluster),
        cluster=cluster,
        pools=tuple(given["POOLS"].split(",")),
        boot_seconds=int(given["BOOT_SECONDS"]),
        kubelet_port=int(given.get("KUBELET_PORT", KUBELET_PORT)),
    )
    rke2 = Rke2(Path(given["RKE2_SECRETS"])) if "RKE2_SECRETS" in given else None
    uvicorn.run(
        build(rules, Limiter(int(given["REQUESTS_PER_MINUTE"])), rke2),
        http=WithPeer,
        host=given["ADDRESS"],
        port=int(given["PORT"]),
        ssl_certfile=given["TLS_CERTIFICATE"],
        ssl_keyfile=given["TLS_KEY"],
        # Asked for, and not required: a node has none when it comes for its first one.
        ssl_ca_certs=given.get("TLS_CLIENTS"),
        ssl_cert_reqs=ssl.CERT_OPTIONAL if rke2 else ssl.CERT_NONE,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        limit_concurrency=LARGEST_LOAD,
        timeout_keep_alive=5,
    )


if __name__ == "__main__":
    main()

"""The cluster's side: one claim per boot, notices of boots, and a certificate that its own signer makes.

Source: Kubernetes API reference, Lease and CertificateSigningRequest.
"""

import asyncio
import base64
import datetime
import os
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

from modules.nodes.node_identity_service.refusals import ALREADY_ISSUED, TRY_AGAIN, Refused

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
EPOCH = "sitewright.dev/boot-epoch"
NOTICE = "boot-notice-"  # before the xname, which alone is the name of a claim
ACCOUNT = Path(os.environ.get("SERVICE_ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
POLL_SECONDS, SIGN_SECONDS = 0.1, 20.0


class Cluster:
    """http: a client whose base URL is that of the API server. namespace: of the claims and notices.

    lifetime: of a certificate, in seconds; a kubelet renews its own before it ends.
    """

    def __init__(self, http: httpx.AsyncClient, namespace: str, lifetime: int) -> None:
        self._http, self._lifetime = http, lifetime
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def claim(self, xname: str, epoch: int, digest: str) -> None:
        """Take the one certificate of this boot for this request; the request that has it may ask again.

        A Lease of the service's own namespace, where nodes write nothing. Of two at the same moment, through whichever
        replica, the API server lets one win.
        Raises: Refused where another request of this boot was first.
        """
        before = await self._lease(xname)
        if before is not None and _epoch(before) >= epoch:
            if before["spec"]["holderIdentity"] == digest:
                return
            raise Refused(ALREADY_ISSUED, f"{xname} got its certificate for this boot already")
        if not await self._write(xname, epoch, digest, before):
            await self._lost(xname, digest)

    async def _lost(self, xname: str, digest: str) -> None:
        """Somebody else wrote at the same moment: perhaps for the very same request, through another replica."""
        winner = (await self._call("GET", f"{self._leases}/{xname}")).json()
        if winner["spec"]["holderIdentity"] != digest:
            raise Refused(ALREADY_ISSUED, f"{xname} got its certificate for this boot already")

    async def note_boot(self, xname: str, epoch: int) -> None:
        """Where two are noted at the same moment, one of the times stays: either is right."""
        name = NOTICE + xname
        await self._write(name, epoch, xname, await self._lease(name))

    async def noted_boot(self, xname: str) -> int:
        """When a boot of the node was noted last, in Unix time; 0 for never."""
        lease = await self._lease(NOTICE + xname)
        return 0 if lease is None else _epoch(lease)

    async def _lease(self, name: str) -> dict[str, Any] | None:
        """None where there is no such Lease."""
        found = await self._call("GET", f"{self._leases}/{name}", accept=(200, 404))
        return None if found.status_code == 404 else found.json()

    async def _write(self, name: str, epoch: int, holder: str, before: dict[str, Any] | None) -> bool:
        """before: the Lease as it was read; None makes it. Returns: whether nobody wrote it meanwhile."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "annotations": {EPOCH: str(epoch)}},
            "spec": {"holderIdentity": holder, "acquireTime": now},
        }
        if before is None:
            done = await self._call("POST", self._leases, lease, accept=(201, 409))
        else:
            lease["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            done = await self._call("PUT", f"{self._leases}/{name}", lease, accept=(200, 409))
        return done.status_code != 409

    async def sign(self, xname: str, epoch: int, digest: str, pem: str) -> str:
        """The certificate in PEM. Asked again for the same request, it gives the same one."""
        path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
        # Nobody else can know the digest before the claim, so nobody can have taken the name.
        name = f"{xname}-{epoch}-{digest[:16]}"
        request = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(pem.encode()).decode(),
                "signerName": SIGNER,
                "expirationSeconds": self._lifetime,
                "usages": ["digital signature", "client auth"],
            },
        }
        await self._call("POST", path, request, accept=(201, 409))
        found = (await self._call("GET", f"{path}/{name}")).json()
        if base64.b64decode(found["spec"]["request"]).decode() != pem:
            raise Refused(ALREADY_ISSUED, f"{name} is a request of somebody else")
        if not found.get("status", {}).get("conditions"):
            await self._approve(f"{path}/{name}", found)
        return await self._signed(f"{path}/{name}")

    async def _signed(self, path: str) -> str:
        deadline = time.monotonic() + SIGN_SECONDS
        while time.monotonic() < deadline:
            status = (await self._call("GET", path)).json().get("status", {})
            if certificate := status.get("certificate"):
                return base64.b64decode(certificate).decode()
            await asyncio.sleep(POLL_SECONDS)
        raise Refused(TRY_AGAIN, f"the cluster did not sign the request within {SIGN_SECONDS:.0f} s")

    async def _approve(self, path: str, found: dict[str, Any]) -> None:
        approved = {
            "type": "Approved",
            "status": "True",
            "reason": "NodeBooted",
            "message": "the provisioner says that the node of this name has just booted",
        }
        body = {**found, "status": {"conditions": [approved]}}
        # 409: the other replica was asked for the same, and approved it.
        await self._call("PUT", f"{path}/approval", body, accept=(200, 409))

    async def _call(
        self, method: str, path: str, body: Any = None, accept: tuple[int, ...] = (200,)
    ) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Refused(TRY_AGAIN, f"the API server does not answer: {type(error).__name__}") from error
        if answer.status_code not in accept:
            raise Refused(TRY_AGAIN, f"the API server answers {method} {path} with {answer.status_code}")
        return answer


def _epoch(lease: dict[str, Any]) -> int:
    return int(lease["metadata"]["annotations"][EPOCH])


class ServiceAccount(httpx.Auth):
    """The token of this pod, which the kubelet renews."""

    def auth_flow(self, request: httpx.Request):  # type: ignore[no-untyped-def]
        request.headers["Authorization"] = f"Bearer {(ACCOUNT / 'token').read_text().strip()}"
        yield request


def api_of_this_machine() -> httpx.AsyncClient:
    """The API server beside this pod: needs no Service, and goes where the service goes."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    return httpx.AsyncClient(base_url=f"https://{host}:{port}", verify=trust, auth=ServiceAccount())

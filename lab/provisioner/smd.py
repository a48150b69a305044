"""SMD, the state manager: components, inventory and groups behind one port.

Source: SMD 2.20.5, base path /hsm/v2, no authentication; tests/data/contracts.
"""

from fastapi import FastAPI, Response

from lab.provisioner import smd_components, smd_groups, smd_inventory
from lab.provisioner.answers import answer, empty, new_app
from lab.provisioner.store import Store


def build(store: Store) -> FastAPI:
    app = new_app("SMD")

    @app.get("/hsm/v2/service/ready")
    async def ready() -> Response:
        return answer({"code": 0, "message": "HSM is healthy"})

    @app.get("/hsm/v2/service/liveness")
    async def liveness() -> Response:
        return empty(204)

    for part in (smd_components, smd_inventory, smd_groups):
        app.include_router(part.routes(store))
    return app

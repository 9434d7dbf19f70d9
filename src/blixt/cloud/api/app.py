"""The application: routers checked and joined, errors in one shape, headers on every answer."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI

from blixt import __version__
from blixt.cloud.api import blobs, experiments, login, models, money, people, secrets, watch
from blixt.cloud.api.access import check_declarations
from blixt.cloud.api.context import Cloud
from blixt.cloud.api.errors import install_error_handlers
from blixt.cloud.api.objects import object_routers
from blixt.cloud.api.shield import Shield

PREFIX = "/api/v1"


def build_app(cloud: Cloud, extra_routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Build the API and console application.

    Args:
        cloud: The cloud's parts.
        extra_routers: More routers, with paths below `/api/v1`.

    Raises:
        RuntimeError: When a route does not declare who may call it.
    """
    own = [module.router for module in (login, people, secrets, money, experiments, models, blobs, watch)]
    # Routers with longer paths come first, the generic ones last.
    routers = [*extra_routers, *own, *object_routers()]
    check_declarations(routers)
    app = FastAPI(
        title="blixt",
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.cloud = cloud
    for router in routers:
        app.include_router(router, prefix=PREFIX)
    install_error_handlers(app)
    app.add_middleware(Shield)
    return app

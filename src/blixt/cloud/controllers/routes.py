"""Tells the gateway what runs where: routes are made from objects, whenever the change log says so."""

from blixt.cloud.gateway import Backend, RouteTable, StudioApp, StudioRoute, Target
from blixt.cloud.objects import Object


class Routes:
    """Fills the gateway's table; call it on the gateway's event loop."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._apps: dict[str, dict[str, StudioApp]] = {}
        self._studios: dict[str, Object] = {}

    def apply(self, obj: Object, *, gone: bool = False) -> None:
        """Take in an object as it is now."""
        if gone:
            self._table.remove(obj.uid)
            self._apps.pop(obj.uid, None)
            self._studios.pop(obj.uid, None)
        elif obj.kind == "deployment":
            self._table.set_deployment(backend(obj))
        elif obj.kind == "studio":
            old = self._studios.get(obj.uid)
            if old is not None and old.status["allocation"] != obj.status["allocation"]:
                self._apps.pop(obj.uid, None)  # its applications ended with its machine
            self._studios[obj.uid] = obj
            self._set_studio(obj)

    def set_app(self, obj: Object, name: str, app: StudioApp) -> None:
        """An application runs in a Studio from now on."""
        self._apps.setdefault(obj.uid, {})[name] = app
        self._studios[obj.uid] = obj
        self._set_studio(obj)

    def _set_studio(self, obj: Object) -> None:
        running = obj.status["allocation"] if obj.status["state"] == "running" else None
        apps = self._apps.get(obj.uid, {})
        self._table.set_studio(StudioRoute(obj.uid, obj.teamspace, obj.name, running, dict(apps)))


def backend(obj: Object) -> Backend:
    """A deployment as the gateway sees it: only what is ready gets requests."""
    ready = [replica for replica in obj.status["replicas"] if replica["state"] == "ready"]
    state = "stopped" if obj.spec["desired"] == "stopped" or obj.deleting else obj.status["state"]
    return Backend(
        uid=obj.uid,
        teamspace=obj.teamspace,
        name=obj.name,
        public=obj.spec["public"],
        replicas=tuple(Target(replica["allocation"], replica["port"]) for replica in ready),
        state=state,
        reason=obj.status["reason"],
        hold_s=float(obj.spec["start_timeout_s"]),
    )

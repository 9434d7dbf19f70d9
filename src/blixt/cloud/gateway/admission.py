"""Who may pass, and where to: a matched request becomes a plan, or an error or a redirect of our own."""

from dataclasses import dataclass
from urllib.parse import parse_qs

from blixt.cloud.gateway.context import API_TARGET, Context
from blixt.cloud.gateway.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    StudioSessionMissing,
    Unauthorized,
    Unavailable,
)
from blixt.cloud.gateway.headers import (
    Onward,
    bearer,
    cookie,
    encode_inject,
    is_safe,
    same_origin,
    wants_websocket,
)
from blixt.cloud.gateway.heads import RequestHead
from blixt.cloud.gateway.lanes import Lane
from blixt.cloud.gateway.places import FixedPlace, Place
from blixt.cloud.gateway.replies import redirect_response
from blixt.cloud.gateway.routing import DeploymentMatch, StudioMatch, StudioRoute, Target, locate
from blixt.cloud.gateway.sessions import LOGIN_PATH, SESSION_COOKIE

_CONSOLE_COOKIE = b"blixt_session"
_API_PLACE = FixedPlace(API_TARGET, "The blixt API")


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a request goes, what changes on the way, and the lane that counts it."""

    place: Place
    onward: Onward
    lane: Lane | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer of our own: to `location`, with a cookie."""

    location: str
    cookie: str

    def response(self, head: RequestHead, *, close: bool) -> bytes:
        """The bytes of the answer."""
        return redirect_response(self.location, self.cookie, head, close=close)


async def admit(context: Context, head: RequestHead) -> Plan | Redirect:
    """Route a request and check that its sender may pass.

    Raises:
        GatewayError: it may not, or there is no such place.
    """
    host, target = locate(head)
    match = context.table.match(host, target, context.domain)
    if isinstance(match, DeploymentMatch):
        return await _admit_deployment(context, head, match)
    if isinstance(match, StudioMatch):
        return await _admit_studio(context, head, match, target)
    return Plan(_API_PLACE, Onward(target))


async def _admit_deployment(context: Context, head: RequestHead, match: DeploymentMatch) -> Plan:
    backend = match.backend
    if b"service-worker" in head.index:
        raise Forbidden("A deployment cannot install a service worker on this origin.", hint="")
    keep_authorization = False
    if backend is not None and backend.public:
        token = bearer(head)
        keep_authorization = token is None or await context.trust.principal(token) is None
    else:
        await _require_member(context, head, match.teamspace)
    if backend is None:  # maybe it was made a moment ago and its route is still on its way
        backend = await context.table.arrival(match.teamspace, match.name, context.limits.arrival_s)
    if backend is None:
        raise NotFound(f"There is no deployment {match.name!r} in teamspace {match.teamspace!r}.")
    onward = Onward(
        match.rest,
        guest=True,
        keep_authorization=keep_authorization,
        shared_origin=True,
        prefix=match.prefix,
    )
    lane = context.lanes.lane(backend)
    return Plan(lane, onward, lane)


async def _require_member(context: Context, head: RequestHead, teamspace: str) -> None:
    token = bearer(head)
    if token is None:
        token = cookie(head, _CONSOLE_COOKIE)
        if token is None:
            raise Unauthorized("This needs a token of a member of the teamspace.")
        _require_same_origin(head)
    await _require_token(context, token, teamspace)


async def _require_token(context: Context, token: str, teamspace: str) -> None:
    principal = await context.trust.principal(token)
    if principal is None:
        raise Unauthorized("The token is not known; it may have expired or been revoked.")
    if not await context.trust.allows(token, principal, teamspace):
        raise Forbidden(f"This account may not use teamspace {teamspace!r}.")


def _require_same_origin(head: RequestHead) -> None:
    """A cookie counts only for its own origin's pages where the request could change something."""
    if not same_origin(head) and (wants_websocket(head) or not is_safe(head.method)):
        raise Forbidden(
            "The request comes from a page of another origin.", hint="Send a token instead of a cookie."
        )


async def _admit_studio(
    context: Context, head: RequestHead, match: StudioMatch, target: bytes
) -> Plan | Redirect:
    route = match.route
    app = route.app(match.app) if route is not None else None
    if route is None or app is None:
        raise NotFound(f"No Studio app lives at {match.label!r}.", hint="Open the Studio from the console.")
    path, _, query = target.partition(b"?")
    if path == LOGIN_PATH:
        return _log_in(context, head, match.app, route, query)
    if path.startswith(b"/_blixt/"):
        raise NotFound("Paths under /_blixt/ belong to the gateway.")
    await _require_session(context, head, match.app, route)
    if route.allocation_id is None:
        raise Unavailable(
            f"Studio {route.name!r} is not running.",
            hint=f"Start it from the console or with `blixt studio start {route.name}`.",
        )
    place = FixedPlace(Target(route.allocation_id, app.port), f"{match.app} in Studio {route.name!r}")
    return Plan(place, Onward(target, guest=True, inject=encode_inject(app.inject_headers)))


async def _require_session(context: Context, head: RequestHead, app: str, route: StudioRoute) -> None:
    value = cookie(head, SESSION_COOKIE)
    session = context.sessions.find(value, route.uid, app) if value is not None else None
    if value is None or session is None:
        token = bearer(head)
        if token is None:
            raise StudioSessionMissing("This browser has no session with this Studio.")
        await _require_token(context, token, route.teamspace)
        if wants_websocket(head):
            _require_same_origin(head)
        return
    _require_same_origin(head)
    if not await context.trust.allows(value, session.principal, route.teamspace):
        raise Forbidden(f"This account may not use teamspace {route.teamspace!r}.")


def _log_in(context: Context, head: RequestHead, app: str, route: StudioRoute, query: bytes) -> Redirect:
    if head.method != b"GET":
        raise BadRequest("A ticket is redeemed with GET.")
    ticket = parse_qs(query.decode("latin-1")).get("ticket", [""])[0]
    redeemed = context.sessions.redeem(ticket, route.uid, app)
    if redeemed is None:
        raise StudioSessionMissing("This ticket was used already, or is too old, or is for another Studio.")
    value, session = redeemed
    cookie_line = (
        f"{SESSION_COOKIE.decode()}={value}; Path=/; HttpOnly; SameSite=Lax; "
        f"Max-Age={context.sessions.session_s:.0f}"
    )
    return Redirect(session.path, cookie_line)

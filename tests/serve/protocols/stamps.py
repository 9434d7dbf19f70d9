"""A user's own ASGI middleware, importable by the server's process."""

from blixt.serve import HTTPError


class Stamp:
    """Adds a header to every answer, and says whom it took the client for."""

    def __init__(self, app, text="plain"):
        self.app = app
        self.text = text

    async def __call__(self, scope, receive, send):
        async def stamped(message):
            if message["type"] == "http.response.start":
                client = scope["client"][0] if scope.get("client") else ""
                extra = [(b"x-stamp", self.text.encode()), (b"x-client", client.encode())]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, stamped)


def token_is_good(token):
    """A user's check of bearer tokens."""
    return token == "good token"


async def token_is_good_async(token):
    """The same, as a coroutine, with more to say."""
    if token == "broken":
        raise KeyError("no such claim")
    if token == "banned":
        raise HTTPError(403, "banned", {"x-until": "tomorrow"})
    return token == "good token"


def add_hello(app):
    """Routes of the user's own beside the APIs."""

    @app.get("/hello/{name}")
    def hello(name: str, loud: bool = False):
        return {"hello": name.upper() if loud else name}

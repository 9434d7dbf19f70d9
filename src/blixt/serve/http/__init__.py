"""The front's HTTP side: the ASGI app, the lanes into the hub, and the shapes of answers."""

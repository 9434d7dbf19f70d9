"""The web console's files: what `/` and every unknown page address get."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

STATIC = Path(__file__).parents[1] / "static"
_NOT_CONSOLE = ("/api", "/d", "/_blixt")

_NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>blixt</title>
<h1>blixt is running</h1>
<p>The web console is not built in this copy. Build it with <code>python console/build.py</code>
and reload this page. The API is at <code>/api/v1</code>.</p>
</html>
"""


def console_response(request: Request, static: Path = STATIC) -> Response | None:
    """Return the console's file or page for an address no route knows; None when it is not the console's."""
    path = request.url.path
    if request.method not in ("GET", "HEAD"):
        return None
    if any(path == prefix or path.startswith(prefix + "/") for prefix in _NOT_CONSOLE):
        return None
    file = _file_at(static, path)
    if file is not None:
        # Vite names assets by their content, so they never change under one name.
        lasting = path.startswith("/assets/")
        age = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return FileResponse(file, headers={"Cache-Control": age})
    if path.startswith("/assets/"):
        return None
    index = static / "index.html"
    if index.is_file():
        return FileResponse(index, headers={"Cache-Control": "no-cache"})
    return HTMLResponse(_NOT_BUILT, headers={"Cache-Control": "no-cache"})


def _file_at(static: Path, path: str) -> Path | None:
    if "\0" in path or path == "/":
        return None
    file = (static / path.lstrip("/")).resolve()
    inside = file.is_relative_to(static.resolve())
    return file if inside and len(path) < 1024 and file.is_file() else None

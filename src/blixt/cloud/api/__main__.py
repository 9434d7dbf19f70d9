"""Run the API and console alone, without controllers: `python -m blixt.cloud.api --data-dir D --port N`."""

import argparse

import uvicorn

from blixt.cloud.api import build_app, open_cloud
from blixt.cloud.settings import Settings


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m blixt.cloud.api", description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    settings = Settings.resolve(arguments.data_dir, arguments.host, arguments.port)
    cloud = open_cloud(settings)
    try:
        uvicorn.run(
            build_app(cloud),
            host=settings.host,
            port=settings.port,
            log_level="info",
            timeout_graceful_shutdown=1,
        )
    finally:
        cloud.close()


if __name__ == "__main__":
    main()

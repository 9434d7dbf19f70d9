"""`python -m blixt.cloud.agent SETTINGS [UID]`: started by an engine, as the first process of an allocation.

With UID the agent was started as root inside the sandbox and becomes that user before it reads anything.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from blixt.cloud.agent.session import Agent
from blixt.cloud.agent.settings import become, load


async def main() -> None:
    """Serve until killed, or until the allocation is over."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # a shell's background job ignores them
    if len(sys.argv) > 2:
        become(int(sys.argv[2]))
    agent = Agent(load(Path(sys.argv[1])))
    running = asyncio.ensure_future(agent.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    await asyncio.wait({running})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="agent: %(message)s")
    logging.getLogger("websockets").setLevel(logging.WARNING)
    asyncio.run(main())

"""One cloud for all browser tests of a worker, one Chromium a file, one profile a test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.console.browser import CHROMIUM, WAIT_MS, chromium, opened
from tests.console.cloud import Cloud, running_cloud
from tests.console.world import populate

# A wait ends as soon as its condition holds; the bound only has to outlast a busy machine.
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud with something of every kind in it."""
    with running_cloud(tmp_path_factory.mktemp("cloud") / "data") as cloud:
        populate(cloud)
        yield cloud


# Playwright's loop runs in this thread while it is open, so it must not outlive the file: tests of other
# rooms in the same worker start loops of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is missing: apt-get install chromium fonts-dejavu-core")
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, cloud: Cloud) -> Iterator[Page]:
    """A signed-in page on Home."""
    with opened(browser) as context:
        page = context.new_page()
        page.goto(cloud.ticket_url())
        page.get_by_role("heading", name="Home").wait_for()
        yield page

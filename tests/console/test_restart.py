"""The server is killed while somebody watches: the page says so, catches up, and the log has no hole."""

import json
import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.console.browser import opened
from tests.console.cloud import running_cloud

pytestmark = pytest.mark.browser
# It may be on the screen for less time than passes between two looks of a busy machine.
NOTE_NOT_LIVE = """() => {
    const look = () => {
        if (document.body.innerText.includes("Not live")) document.documentElement.dataset.seen = "not live";
    };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def test_a_page_outlives_a_killed_server_without_a_hole_in_the_log(browser: Browser, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running_cloud(data_dir) as cloud, opened(browser) as context:
        count = "for i in $(seq 1 100000); do echo line $i; sleep 0.05; done"
        cloud.create("jobs", "counting", command=count)
        page = context.new_page()
        page.goto(cloud.ticket_url())
        page.get_by_role("heading", name="Home").wait_for()
        page.goto(cloud.page("jobs/counting"))
        log = page.get_by_role("log", name="Log")
        expect(log).to_contain_text("line 20\n")

        page.evaluate(NOTE_NOT_LIVE)
        os.kill(json.loads((data_dir / "server.json").read_text())["pid"], signal.SIGKILL)
        expect(page.locator("html")).to_have_attribute("data-seen", "not live")
        expect(page.get_by_text("Not live")).to_have_count(0)
        seen = page.locator(".log-line").count()
        expect(page.locator(".log-line").nth(seen + 20)).to_be_attached()
        # The text itself, not what is painted: blocks above the screen are not.
        lines = [line.rstrip("\n") for line in page.locator(".log-line").all_text_contents()[:-1]]
        assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
        cloud.post("jobs/counting/stop")

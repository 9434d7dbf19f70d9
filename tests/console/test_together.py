"""Two browsers at once: changes arrive by themselves, and nobody overwrites anybody."""

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.console.browser import opened
from tests.console.cloud import Cloud

pytestmark = pytest.mark.browser


def test_what_one_browser_makes_appears_in_another(page: Page, browser: Browser, cloud: Cloud) -> None:
    with opened(browser) as other:
        watcher = other.new_page()
        watcher.goto(cloud.ticket_url())
        watcher.get_by_role("link", name="Studios").click()
        expect(watcher.get_by_role("row", name="notebook")).to_be_visible()
        page.goto(cloud.page("studios"))
        page.get_by_role("button", name="New Studio").click()
        page.get_by_label("Name").fill("shared")
        page.get_by_label("Start it now").uncheck()
        page.get_by_role("button", name="Create Studio").click()
        expect(watcher.get_by_role("row", name="shared")).to_be_visible()
        cloud.delete("studios", "shared")
        expect(watcher.get_by_role("row", name="shared")).to_have_count(0)


def test_the_second_of_two_editors_learns_that_the_first_was_faster(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("deployments/parrot"))
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Requests at once per replica").fill("3")
    parrot = cloud.get("deployments/parrot")
    changed = {**parrot["spec"], "concurrency": 16}
    cloud.put("deployments/parrot", {"revision": parrot["revision"], "spec": changed, "labels": {}})
    page.get_by_role("button", name="Save changes").click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_contain_text("Someone else changed parrot")
    assert cloud.get("deployments/parrot")["spec"]["concurrency"] == 16
    alert.get_by_role("button", name="Reload their version").click()
    expect(page.get_by_label("Requests at once per replica")).to_have_value("16")
    page.get_by_label("Requests at once per replica").fill("4")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert cloud.get("deployments/parrot")["spec"]["concurrency"] == 4

"""Secrets in the browser: written once, used by a Job, never shown."""

import re

import pytest
from playwright.sync_api import Page, expect
from tests.console.cloud import Cloud

pytestmark = pytest.mark.browser


def test_a_secret_reaches_a_job_and_no_page_shows_it(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("secrets"))
    page.get_by_role("button", name="New Secret").click()
    page.get_by_label("Name").fill("hubkey")
    page.get_by_label("Value").fill("swordfish-42")
    page.get_by_role("button", name="Save Secret").click()
    expect(page.get_by_role("row", name="hubkey")).to_be_visible()
    page.reload()
    expect(page.get_by_role("row", name="hubkey")).to_be_visible()
    assert "swordfish" not in page.content()

    page.goto(cloud.page("jobs"))
    page.get_by_role("button", name="New Job").click()
    page.get_by_label("Name").fill("uses-secret")
    page.get_by_role("textbox", name="Command").fill("env | grep -ic swordfish")
    page.get_by_text("More: machines").click()
    page.get_by_label("hubkey").check()
    page.get_by_role("button", name="Run Job").click()
    page.get_by_role("link", name="uses-secret").click()
    ended = cloud.wait_for_state("jobs", "uses-secret", "succeeded", "failed")
    assert ended["status"]["reason"] == ""
    assert (ended["status"]["state"], ended["spec"]["secrets"]) == ("succeeded", ["hubkey"])
    state = page.locator(".page-title .state")
    expect(state).to_have_text(re.compile("succeeded|failed"))
    assert (state.inner_text(), cloud.get("jobs/uses-secret")["status"]["reason"]) == ("succeeded", "")
    expect(page.get_by_role("log", name="Log")).to_contain_text("1")
    cloud.delete("jobs", "uses-secret")

    page.goto(cloud.page("secrets"))
    page.get_by_role("button", name="Delete hubkey").click()
    page.get_by_role("button", name="Delete Secret").click()
    expect(page.get_by_role("row", name="hubkey")).to_have_count(0)

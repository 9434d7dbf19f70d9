"""A Job in the browser: create, log, curve, stop."""

import re

import pytest
from playwright.sync_api import Page, expect
from tests.console.cloud import Cloud
from tests.console.world import train_job

pytestmark = pytest.mark.browser


def test_a_finished_job_shows_its_log_with_search_and_download(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs/first"))
    log = page.get_by_role("log", name="Log")
    expect(log).to_contain_text("done")
    expect(page.get_by_text("· complete")).to_be_visible()
    page.get_by_label("Find in log").fill("STEP   40")
    expect(page.locator("mark")).to_have_count(1)
    page.get_by_role("button", name="Next match").click()
    expect(page.get_by_role("search").get_by_text("1 of 1")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    text = download.value.path().read_text()
    assert text.startswith("Training tiny-gpt for 40 steps")
    assert len(text.splitlines()) == 42


def test_the_metrics_of_a_jobs_run_are_drawn(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs/first"))
    page.get_by_role("tab", name="Metrics").click()
    chart = page.get_by_role("img", name=re.compile("Chart of train_loss"))
    expect(chart).to_be_visible()
    expect(chart.locator("canvas")).to_be_visible()
    expect(chart).to_have_attribute("aria-label", re.compile(r"first \d"))


def test_a_job_made_in_the_form_runs_live_and_can_be_stopped(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs"))
    page.get_by_role("button", name="New Job").click()
    page.get_by_label("Name").fill("by-hand")
    page.get_by_label("Command").fill("echo hello from the form; sleep 600")
    page.get_by_role("button", name="Run Job").click()
    page.get_by_role("link", name="by-hand").click()
    expect(page.get_by_role("log", name="Log")).to_contain_text("hello from the form")
    expect(page.locator(".page-title .state")).to_have_text("running")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop Job").click()
    expect(page.locator(".page-title .state")).to_have_text("stopped")
    cloud.delete("jobs", "by-hand")


def test_a_log_and_a_curve_grow_while_the_job_runs(page: Page, cloud: Cloud) -> None:
    train_job(cloud, "live", 4000, 0.1, 0.001, "live")
    page.goto(cloud.page("jobs/live"))
    expect(page.get_by_role("log", name="Log")).to_contain_text("step    3")
    page.get_by_role("tab", name="Metrics").click()
    chart = page.get_by_role("img", name=re.compile("Chart of train_loss"))
    before = chart.get_attribute("aria-label")
    expect(chart).not_to_have_attribute("aria-label", before or "")
    cloud.post("jobs/live/stop")
    expect(page.locator(".page-title .state")).to_have_text("stopped")
    cloud.delete("jobs", "live")


def test_what_the_api_refuses_is_told_in_its_own_sentence(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs"))
    page.get_by_role("button", name="New Job").click()
    page.get_by_label("Name").fill("Bad_Name")
    expect(page.get_by_text("Use lower-case letters, digits and dashes")).to_be_visible()
    expect(page.get_by_role("button", name="Run Job")).to_be_disabled()
    page.get_by_label("Name").fill("refused")
    page.get_by_label("Command").fill("true")
    page.get_by_text("More: machines").click()
    page.get_by_label("Model").fill("Not A Model")
    page.get_by_role("button", name="Run Job").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("not a valid name")


def test_an_unknown_job_says_what_to_do(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs/never-was"))
    expect(page.get_by_role("alert")).to_contain_text("There is no job named never-was here.")

"""Experiments, Models and money in the browser."""

import re

import pytest
from playwright.sync_api import Page, expect
from tests.console.cloud import Cloud
from tests.console.world import train_job

pytestmark = pytest.mark.browser


def test_runs_are_compared_smoothed_and_sorted(page: Page, cloud: Cloud) -> None:
    train_job(cloud, "second", 20, 0.0, 0.003, "pretrain")
    cloud.wait_for_state("jobs", "second", "succeeded")
    page.goto(cloud.page("experiments/pretrain"))
    chart = page.get_by_role("img", name=re.compile("Chart of train_loss"))
    expect(chart).to_have_attribute("aria-label", re.compile("second .*first|first .*second"))
    page.get_by_label("Draw second").uncheck()
    expect(chart).not_to_have_attribute("aria-label", re.compile("second"))
    page.get_by_label("Smoothing").fill("0.6")
    page.get_by_label("Log scale").check()
    page.get_by_label("Across").select_option("time")
    expect(chart.locator("canvas")).to_be_visible()
    page.get_by_role("button", name="train_loss").click()
    rows = page.get_by_role("region", name="Runs").locator("tbody tr")
    expect(rows.first).to_contain_text("first")


def test_a_model_shows_files_and_metrics_and_offers_to_deploy(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("models"))
    page.get_by_role("link", name="tiny-gpt").click()
    expect(page.get_by_role("link", name="model.safetensors")).to_be_visible()
    expect(page.get_by_text("2.6 MB in 3 files")).to_be_visible()
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("dialog").get_by_label("Model", exact=True)).to_have_value("tiny-gpt:1")


def test_the_bill_has_a_line_for_everything_that_ran(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("billing"))
    bill = page.get_by_role("region", name="Bill")
    expect(bill.get_by_role("row", name=re.compile("notebook.*running"))).to_be_visible()
    expect(bill.get_by_role("row", name=re.compile("first.*closed"))).to_be_visible()
    expect(page.get_by_role("region", name="Ledger").locator("tbody tr").first).to_be_visible()


def test_an_open_line_ticks(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("billing"))
    amount = page.get_by_role("row", name=re.compile("notebook.*running")).get_by_role("cell").last
    before = amount.inner_text()
    expect(amount).not_to_have_text(before)


def test_a_budget_is_changed(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("billing"))
    page.get_by_role("button", name="Edit budget teamspace").click()
    page.get_by_label("Limit in credits").fill("30")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_text("of 30.00 cr left this month")).to_be_visible()


def test_a_new_members_token_is_shown_once_and_signs_in(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("members"))
    page.get_by_role("button", name="Add a member").click()
    page.get_by_label("Name").fill("astrid")
    page.get_by_label("Role", exact=True).select_option("viewer")
    page.get_by_role("dialog").get_by_role("button", name="Add member").click()
    token = page.get_by_label("token", exact=True).inner_text()
    page.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_label("Role of astrid")).to_have_value("viewer")
    assert token not in page.content()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token", exact=True).fill(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="astrid (you)")).to_be_visible()
    expect(page.get_by_role("button", name="Add a member")).to_have_count(0)
    page.goto(cloud.page("studios/notebook"))
    expect(page.get_by_text("Viewers see that a Studio is there")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)

"""Signing in and out."""

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.console.browser import opened
from tests.console.cloud import Cloud

pytestmark = pytest.mark.browser


def test_a_wrong_token_gets_one_clear_sentence_and_stays_on_the_page(browser: Browser, cloud: Cloud) -> None:
    with opened(browser) as context:
        page = context.new_page()
        page.goto(cloud.page("jobs"))
        page.get_by_label("Token").fill("blx_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("This token is unknown")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_signing_in_with_a_token_leads_to_the_page_that_was_asked_for(browser: Browser, cloud: Cloud) -> None:
    with opened(browser) as context:
        page = context.new_page()
        page.goto(cloud.page("jobs"))
        page.get_by_label("Token").fill(cloud.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()
        expect(page).to_have_url(cloud.page("jobs"))


def test_a_one_time_link_signs_in_and_does_not_stay_in_the_address(page: Page, cloud: Cloud) -> None:
    expect(page).to_have_url(cloud.page())


def test_a_used_link_says_so(browser: Browser, cloud: Cloud) -> None:
    url = cloud.ticket_url()
    with opened(browser) as first:
        first_page = first.new_page()
        first_page.goto(url)
        first_page.get_by_role("heading", name="Home").wait_for()
    with opened(browser) as second:
        second_page = second.new_page()
        second_page.goto(url)
        expect(second_page.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(second_page.get_by_role("alert")).to_be_visible()


def test_signing_out_ends_the_session(page: Page, cloud: Cloud) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(cloud.page("jobs"))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_session_that_ended_elsewhere_leads_to_sign_in(page: Page) -> None:
    page.context.clear_cookies()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

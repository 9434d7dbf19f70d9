"""Everybody can use it: axe on every page in both themes, the keyboard alone, a phone."""

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.console.browser import opened, violations
from tests.console.cloud import Cloud

pytestmark = pytest.mark.browser

PAGES = {
    "": "Home",
    "studios": "Studios",
    "studios/notebook": "notebook",
    "studios/notebook?tab=command": "notebook",
    "jobs": "Jobs",
    "jobs/first": "first",
    "jobs/first?tab=metrics": "first",
    "jobs/first?tab=settings": "first",
    "experiments": "Experiments",
    "experiments/pretrain": "pretrain",
    "models": "Models",
    "models/tiny-gpt": "tiny-gpt",
    "deployments": "Deployments",
    "deployments/parrot": "parrot",
    "deployments/parrot?tab=code": "parrot",
    "deployments/parrot?tab=logs": "parrot",
    "secrets": "Secrets",
    "billing": "Billing",
    "members": "Members",
    "nowhere": "Nothing here",
}
DIALOGS = {
    "secrets": "New Secret",
    "studios": "New Studio",
    "jobs": "New Job",
    "deployments": "New Deployment",
    "members": "New token",
}


def visit(page: Page, cloud: Cloud, path: str) -> None:
    page.goto(cloud.page(path))
    expect(page.get_by_role("heading", name=PAGES[path], level=1)).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page_and_the_browser_complains_of_nothing(
    browser: Browser, cloud: Cloud, theme: str
) -> None:
    with opened(browser, color_scheme=theme) as context:
        page = context.new_page()
        page.goto(cloud.url)
        page.get_by_role("heading", name="Sign in").wait_for()
        found = {"sign in": violations(page)}
        page.goto(cloud.ticket_url())
        page.get_by_role("heading", name="Home").wait_for()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        for path in PAGES:
            visit(page, cloud, path)
            found[path] = violations(page)
        for path, button in DIALOGS.items():
            visit(page, cloud, path)
            page.get_by_role("button", name=button).click()
            page.get_by_role("dialog").wait_for()
            found[button] = violations(page)
    assert {where: what for where, what in found.items() if what} == {}
    assert complaints == []


def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, cloud: Cloud) -> None:
    with opened(browser, viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.goto(cloud.ticket_url())
        page.get_by_role("heading", name="Home").wait_for()
        too_wide: dict[str, int] = {}
        for path in PAGES:
            visit(page, cloud, path)
            extra = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if extra > 0:
                too_wide[path] = extra
    assert too_wide == {}


def test_the_menu_opens_and_closes_on_a_phone(browser: Browser, cloud: Cloud) -> None:
    with opened(browser, viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.goto(cloud.ticket_url())
        page.get_by_role("button", name="Open menu").click()
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()
        expect(page.get_by_role("link", name="Studios")).to_be_hidden()


def test_the_keyboard_alone_reaches_content_and_answers_a_dialog(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs"))
    page.get_by_role("heading", name="Jobs").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="New Job")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="New Job")).to_be_focused()


def test_arrow_keys_move_between_tabs(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("jobs/first"))
    page.get_by_role("tab", name="Log").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Metrics")).to_be_focused()
    expect(page).to_have_url(cloud.page("jobs/first?tab=metrics"))


def test_following_a_link_puts_the_focus_on_the_new_pages_heading(page: Page) -> None:
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", name="Models", level=1)).to_be_focused()


def test_a_chosen_theme_stays_after_a_reload(page: Page) -> None:
    page.get_by_label("Theme").select_option("dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_label("Theme")).to_have_value("dark")

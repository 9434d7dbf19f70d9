"""The documentation's page, in a browser that can reach nothing but the server."""

import shutil

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, web_service):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{web_service.url}/docs")
    page.get_by_text("/locate").wait_for()
    yield page
    page.close()
    assert [url for url in asked if not url.startswith(web_service.url)] == []


def test_every_route_is_shown(page, web_service):
    for path in ("/locate", "/rot13", "/guarded", "/picture", "/metrics", "/hello/{name}"):
        assert page.locator("summary", has_text=path).count() == 1


def test_a_route_is_tried_with_its_example_and_answers(page):
    row = page.locator("details", has_text="/locate")
    row.locator("summary").click()
    row.locator("textarea").fill('{"x": 12}')
    row.get_by_role("button", name="Send").click()
    row.get_by_text('{"distance":12}').wait_for(timeout=60_000)
    assert "200" in row.locator(".answer").inner_text()


def test_a_streams_events_are_shown_as_they_come(page):
    row = page.locator("details", has_text="/slow")
    row.locator("summary").click()
    row.locator("textarea").fill("{}")
    row.get_by_role("button", name="Send").click()
    row.get_by_text('data: "second"').wait_for(timeout=60_000)


def test_a_path_parameter_is_filled_in(page):
    row = page.locator("details", has_text="/hello/{name}")
    row.locator("summary").click()
    row.locator("label", has_text="name").locator("input").fill("ada")
    row.get_by_role("button", name="Send").click()
    row.get_by_text('{"hello":"ada"}').wait_for(timeout=60_000)

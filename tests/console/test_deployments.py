"""A Deployment in the browser: wake it, chat with it, read its log."""

import pytest
from playwright.sync_api import Page, expect
from tests.console.cloud import Cloud

pytestmark = pytest.mark.browser


def test_a_sleeping_deployment_wakes_and_answers_a_chat_as_a_stream(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("deployments/parrot"))
    page.get_by_role("button", name="Connect").click()
    box = page.get_by_role("textbox", name="Message")
    box.fill("lightning in a bottle")
    box.press("Enter")
    conversation = page.get_by_role("log", name="Conversation")
    expect(conversation).to_contain_text("You said: lightning in a bottle")
    expect(page.get_by_text("pieces · first after")).to_be_visible()
    expect(page.locator(".page-title .state")).to_have_text("ready")


def test_a_deployment_that_cannot_start_says_so_where_it_is_tried(page: Page, cloud: Cloud) -> None:
    cloud.create("deployments", "broken", command="exit 7", start_timeout_s=5)
    page.goto(cloud.page("deployments/broken"))
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("tabpanel").get_by_role("alert")).to_contain_text("broken")
    cloud.delete("deployments", "broken")


def test_a_completion_goes_on_after_the_prompt(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("deployments/parrot"))
    page.get_by_role("button", name="Completion").click()
    page.get_by_role("button", name="Connect").click()
    page.get_by_label("Prompt").fill("def __init__(self")
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.get_by_role("log", name="Completion")).to_contain_text("You said: def __init__(self")


def test_any_request_can_be_sent_and_its_failure_is_shown(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("deployments/parrot"))
    page.get_by_role("button", name="HTTP request").click()
    page.get_by_label("Path").fill("/nothing")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("404 Not Found in")).to_be_visible()
    expect(page.get_by_label("Answer")).to_contain_text("There is nothing at /nothing.")


def test_the_replicas_and_their_log_are_shown(page: Page, cloud: Cloud) -> None:
    cloud.http.get(f"/d/{cloud.teamspace}/parrot/v1/models").raise_for_status()
    page.goto(cloud.page("deployments/parrot?tab=replicas"))
    expect(page.get_by_role("region", name="Replicas").locator(".state")).to_have_text("ready")
    page.get_by_role("tab", name="Logs").click()
    expect(page.get_by_role("log", name="Log")).to_contain_text("parrot listens on")


def test_snippets_name_this_deployments_address(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("deployments/parrot?tab=code"))
    address = f"{cloud.url}/d/{cloud.teamspace}/parrot/v1"
    expect(page.get_by_label("curl", exact=True)).to_contain_text(f"{address}/chat/completions")
    expect(page.get_by_label("Python (openai)", exact=True)).to_contain_text(f'base_url="{address}"')

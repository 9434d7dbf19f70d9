"""A Studio in the browser: create and stop, terminal, a command, JupyterLab."""

import pytest
from playwright.sync_api import Page, expect
from tests.console.cloud import Cloud

pytestmark = pytest.mark.browser


def test_a_studio_is_created_stopped_started_and_deleted(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("studios"))
    page.get_by_role("button", name="New Studio").click()
    page.get_by_label("Name").fill("workshop")
    page.get_by_role("button", name="Create Studio").click()
    row = page.get_by_role("row", name="workshop")
    expect(row.locator(".state")).to_have_text("running")
    row.get_by_role("button", name="Stop workshop").click()
    expect(row.locator(".state")).to_have_text("stopped")
    row.get_by_role("button", name="Start workshop").click()
    expect(row.locator(".state")).to_have_text("running")
    row.get_by_role("link", name="workshop").click()
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("no way back")
    dialog.get_by_role("button", name="Delete Studio").click()
    expect(page.get_by_role("heading", name="Studios", level=1)).to_be_visible()
    expect(row).to_have_count(0)


def test_the_terminal_runs_a_command_and_comes_back_after_a_reload(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("studios/notebook"))
    screen = page.locator(".xterm-rows")
    expect(page.get_by_text("Connected")).to_be_visible()
    page.keyboard.type("echo $((6 * 7)) is the answer; MARK=kept\n")
    expect(screen).to_contain_text("42 is the answer")
    page.reload()
    expect(screen).to_contain_text("42 is the answer")
    page.keyboard.type("echo still $MARK\n")
    expect(screen).to_contain_text("still kept")


def test_the_keyboard_can_leave_the_terminal(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("studios/notebook"))
    expect(page.get_by_text("Connected")).to_be_visible()
    page.keyboard.press("F6")
    expect(page.get_by_role("button", name="New shell")).to_be_focused()


def test_a_command_shows_its_output_and_its_exit_code(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("studios/notebook?tab=command"))
    page.get_by_role("textbox", name="Command").fill("echo out; echo err >&2; exit 3")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("Failed: exit code 3")).to_be_visible()
    output = page.get_by_role("log", name="Output")
    expect(output).to_contain_text("out")
    expect(output).to_contain_text("err")


def test_jupyterlab_opens_in_a_new_tab_on_the_studios_own_origin(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.page("studios/notebook"))
    with page.expect_popup() as popup:
        page.get_by_role("button", name="Open JupyterLab").click()
    lab = popup.value
    lab.wait_for_selector("#jp-main-dock-panel", timeout=90_000)
    assert ".localhost" in lab.url
    assert "ticket" not in lab.url

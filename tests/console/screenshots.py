"""Draw docs/screenshots anew: `python -m tests.console.screenshots`. One picture of each page.

A cloud is started on a temporary folder, worked with until there is something to see, photographed and
stopped, so the content is real.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.console.browser import chromium, opened
from tests.console.cloud import Cloud, running_cloud
from tests.console.world import parrot, train_job

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SIZE = {"width": 1200, "height": 750}


def main() -> None:
    """Fill a cloud, then photograph its pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="blixt-") as folder,
        running_cloud(Path(folder) / "data") as cloud,
    ):
        fill(cloud)
        with chromium() as browser:
            with opened(browser, viewport=SIZE, color_scheme="light") as context:
                sign_in_page(context.new_page(), cloud)
                photograph(context.new_page(), cloud, PAGES)
            with opened(browser, viewport=SIZE, color_scheme="dark") as context:
                photograph(context.new_page(), cloud, DARK_PAGES)
            phone = {"width": 360, "height": 740}
            with opened(browser, viewport=phone, color_scheme="light", device_scale_factor=2) as context:
                photograph(context.new_page(), cloud, {"phone": ("", nothing)})


def fill(cloud: Cloud) -> None:
    """Work that a small team might have going."""
    cloud.create("budgets", "teamspace", limit_uc=25_000_000, period="month", applies_to="teamspace")
    cloud.create("studios", "notebook", machine="cpu-1", desired="running", idle_timeout_s=3600)
    cloud.create("studios", "data-prep", machine="cpu-1", desired="stopped")
    for name, lr in {"lr-low": 0.0003, "lr-mid": 0.0006, "lr-high": 0.001}.items():
        train_job(cloud, name, 200, 0.0, lr, "pretrain", model="tiny-gpt" if name == "lr-high" else None)
        cloud.wait_for_state("jobs", name, "succeeded", timeout_s=120)
    cloud.create("jobs", "typo", command="pyhton train.py")
    parrot(cloud, "parrot", min_replicas=1, max_replicas=2, idle_timeout_s=600)
    for name in ("hub-token", "wandb-key"):
        cloud.put(f"secrets/{name}", {"value": "not a real one"})
    user = cloud.http.post("/api/v1/users", json={"name": "astrid"})
    user.raise_for_status()
    cloud.put("members/astrid", {"role": "member"})
    train_job(cloud, "lr-top", 3000, 0.15, 0.0013, "pretrain")
    cloud.wait_for_state("deployments", "parrot", "ready", timeout_s=120)
    cloud.wait_for_state("studios", "notebook", "running")


def photograph(page: Page, cloud: Cloud, pages: dict[str, tuple[str, Callable[[Page], None]]]) -> None:
    """Open each page, prepare it, and keep a picture under its name."""
    page.goto(cloud.ticket_url())
    page.get_by_role("heading", name="Home").wait_for()
    for name, (path, prepare) in pages.items():
        page.goto(cloud.page(path))
        page.get_by_role("heading", level=1).wait_for()
        expect(page.locator(".loading")).to_have_count(0)
        prepare(page)
        save(page, name)


def save(page: Page, name: str) -> None:
    page.evaluate("document.fonts.ready")
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
    print(f"{name}.png")


def sign_in_page(page: Page, cloud: Cloud) -> None:
    page.goto(cloud.url)
    page.get_by_label("Token").wait_for()
    save(page, "sign-in")


def nothing(page: Page) -> None:
    page.get_by_text("cr/h").wait_for()


def type_in_terminal(page: Page) -> None:
    page.get_by_text("Connected").wait_for()
    page.keyboard.type("python3 -c 'import sys; print(sys.version)'; df -h . | tail -1\n")
    expect(page.locator(".xterm-rows")).to_contain_text("%")


def follow_log(page: Page) -> None:
    page.locator(".log-line").nth(25).wait_for()


def draw_curves(page: Page) -> None:
    page.get_by_role("img", name=re.compile("Chart of train_loss")).locator("canvas").wait_for()
    page.get_by_label("Smoothing").fill("0.6")
    page.get_by_label("Smoothing").blur()


def chat(page: Page) -> None:
    page.get_by_role("button", name="Connect").click()
    box = page.get_by_role("textbox", name="Message")
    box.fill("lightning in a bottle")
    box.press("Enter")
    page.get_by_text("pieces · first after").wait_for()


PAGES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "home": ("", nothing),
    "studios": ("studios", nothing),
    "studio": ("studios/notebook", type_in_terminal),
    "jobs": ("jobs", nothing),
    "job-log": ("jobs/lr-top", follow_log),
    "experiments": ("experiments", nothing),
    "experiment": ("experiments/pretrain", draw_curves),
    "models": ("models", nothing),
    "model": ("models/tiny-gpt", nothing),
    "deployments": ("deployments", nothing),
    "deployment": ("deployments/parrot", chat),
    "secrets": ("secrets", nothing),
    "billing": ("billing", nothing),
    "members": ("members", nothing),
}
DARK_PAGES = {
    "home-dark": ("", nothing),
    "job-metrics-dark": ("jobs/lr-top?tab=metrics", draw_curves),
}

if __name__ == "__main__":
    main()

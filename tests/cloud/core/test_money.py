import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.cloud.api import Cloud
from blixt.cloud.db.tables import usage_segments
from blixt.cloud.errors import BudgetExceeded, Conflict, Invalid
from blixt.cloud.money import Money, PriceList, charge_uc, credits_text, hold_uc, ledger
from blixt.cloud.money.amounts import month_start_us
from blixt.cloud.money.bill import lines
from blixt.cloud.objects import Object

PRICE = 50_000  # cpu-1
MINUTE = hold_uc(60_000_000, PRICE)


@pytest.fixture
def money(cloud: Cloud) -> Money:
    return cloud.money


@pytest.fixture
def job(cloud: Cloud) -> Object:
    return cloud.store.create("job", "default", "train", {"command": "true"}, owner="admin", actor="admin")


def _budget(cloud: Cloud, limit_uc: int, **spec: Any) -> None:
    spec = {"limit_uc": limit_uc, **spec}
    name = f"b{len(cloud.store.list('budget'))}"
    cloud.store.create("budget", "default", name, spec, owner="admin", actor="admin")


def test_half_an_hour_costs_half_the_price_exactly(cloud: Cloud, money: Money, job: Object) -> None:
    money.place_hold("a1", job, "cpu-1", 1000.0)
    money.open_segment("a1", job, "cpu-1", 1010.0)
    assert money.close_segment("a1", 1010.0 + 1800) == PRICE // 2
    bill = money.bill("default")
    assert (bill.total_uc, bill.lines[0].seconds, bill.lines[0].open) == (PRICE // 2, 1800.0, False)
    assert bill.balance_uc == -PRICE // 2


def test_closing_twice_charges_once(cloud: Cloud, money: Money, job: Object) -> None:
    money.place_hold("a1", job, "cpu-1", 0.0)
    money.open_segment("a1", job, "cpu-1", 0.0)
    assert money.close_segment("a1", 3600.0) == money.close_segment("a1", 7200.0) == PRICE
    assert len(money.ledger("default")) == 1
    with cloud.db.read() as s:
        assert ledger.check(s) == ""


def test_an_allocation_that_never_started_costs_nothing_and_frees_its_hold(
    cloud: Cloud, money: Money, job: Object
) -> None:
    _budget(cloud, MINUTE)
    money.place_hold("a1", job, "cpu-1", 0.0)
    assert money.budget_uses("default")[0].remaining_uc == 0
    assert money.close_segment("a1", 100.0) == 0
    assert money.budget_uses("default")[0].remaining_uc == MINUTE
    assert money.ledger("default") == []


def test_a_segment_without_a_hold_is_refused(money: Money, job: Object) -> None:
    with pytest.raises(Conflict, match="no hold"):
        money.open_segment("a1", job, "cpu-1", 0.0)


def test_a_budget_too_small_refuses_the_start_saying_needed_and_left(
    cloud: Cloud, money: Money, job: Object
) -> None:
    _budget(cloud, MINUTE - 1)
    with pytest.raises(BudgetExceeded) as refused:
        money.place_hold("a1", job, "cpu-1", 0.0)
    assert credits_text(MINUTE) in refused.value.message
    assert credits_text(MINUTE - 1) in refused.value.message
    assert "Raise the budget" in refused.value.hint


def test_a_users_budget_binds_that_user_only(cloud: Cloud, money: Money, job: Object) -> None:
    _budget(cloud, 0, applies_to="user:ann")
    money.place_hold("a1", job, "cpu-1", 0.0)
    anns = cloud.store.create("job", "default", "anns", {"command": "true"}, owner="ann", actor="ann")
    with pytest.raises(BudgetExceeded):
        money.place_hold("a2", anns, "cpu-1", 0.0)


def test_a_hold_is_extended_while_the_budget_lasts_and_then_the_allocation_must_stop(
    cloud: Cloud, money: Money, job: Object
) -> None:
    _budget(cloud, 2 * MINUTE)
    money.place_hold("a1", job, "cpu-1", 0.0)
    money.open_segment("a1", job, "cpu-1", 0.0)
    assert list(money.extend_holds(10.0)) == []
    assert list(money.extend_holds(45.0)) == []
    assert list(money.extend_holds(100.0)) == []
    assert list(money.extend_holds(116.0)) == ["a1"]
    assert money.close_segment("a1", 118.0) <= 2 * MINUTE


def test_time_beyond_the_budget_while_the_server_was_down_is_given_away(
    cloud: Cloud, money: Money, job: Object
) -> None:
    _budget(cloud, 2 * MINUTE)
    money.place_hold("a1", job, "cpu-1", 0.0)
    money.open_segment("a1", job, "cpu-1", 0.0)
    assert money.close_segment("a1", 3600.0) == 2 * MINUTE
    with cloud.db.read() as s:
        assert s.execute(usage_segments.select()).mappings().one()["unbilled_uc"] == PRICE - 2 * MINUTE


def test_a_months_budget_forgets_the_month_before(cloud: Cloud, money: Money, job: Object) -> None:
    october, november = (datetime(2026, month, 1, tzinfo=UTC).timestamp() for month in (10, 11))
    _budget(cloud, PRICE, period="month")
    money.place_hold("a1", job, "cpu-1", october)
    money.open_segment("a1", job, "cpu-1", october)
    assert money.close_segment("a1", october + 3600) == PRICE
    with pytest.raises(BudgetExceeded):
        money.place_hold("a2", job, "cpu-1", october + 4000)
    money.place_hold("a2", job, "cpu-1", november)


def test_a_running_segment_is_on_the_bill_and_grows(
    cloud: Cloud, settings_clock: "Clock", job: Object
) -> None:
    money = Money(cloud.db, cloud.money.prices, settings_clock)
    money.place_hold("a1", job, "cpu-1", 0.0)
    money.open_segment("a1", job, "cpu-1", 0.0)
    settings_clock.now = 36.0
    assert (money.bill("default").total_uc, money.bill("default").lines[0].open) == (500, True)
    settings_clock.now = 72.0
    assert money.bill("default").total_uc == 1000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings_clock() -> Clock:
    return Clock()


@given(
    opened=st.integers(0, 10**12),
    length=st.integers(0, 10**12),
    cuts=st.lists(st.integers(0, 3 * 10**12), min_size=1, max_size=6),
    price=st.integers(0, 10**9),
    unbilled=st.integers(0, 10**6),
)
def test_the_bills_of_adjacent_periods_add_up_to_the_charge(
    opened: int, length: int, cuts: list[int], price: int, unbilled: int
) -> None:
    row = {
        "kind": "job",
        "name": "a",
        "object_uid": "u",
        "machine": "cpu-1",
        "price_uc_per_hour": price,
        "opened_us": opened,
        "closed_us": opened + length,
        "amount_uc": max(0, charge_uc(length, price) - unbilled),
    }
    edges = [0, *sorted(cuts), 4 * 10**12]
    parts = [line for a, b in pairwise(edges) for line in lines([row], a, b)]
    assert sum(part.amount_uc for part in parts) == row["amount_uc"]


@given(duration=st.integers(0, 10**13), price=st.integers(0, 10**9))
def test_a_hold_covers_the_charge_of_its_time_and_hardly_more(duration: int, price: int) -> None:
    assert 0 <= hold_uc(duration, price) - charge_uc(duration, price) <= 1


def test_a_month_begins_at_its_first_moment() -> None:
    at = int(datetime(2028, 2, 29, 23, 59, tzinfo=UTC).timestamp() * 1_000_000)
    assert month_start_us(at) == int(datetime(2028, 2, 1, tzinfo=UTC).timestamp()) * 1_000_000


def test_prices_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    prices = PriceList(tmp_path / "prices.toml")
    assert prices.machine("cpu-1").price_uc_per_hour == PRICE
    _write(prices, tmp_path, "[machines.big]\ncpus = 96\nmemory_gb = 1.5\nprice_per_hour = 3.123456\n")
    assert prices.machine("big").price_uc_per_hour == 3_123_456


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[machines.a", "TOML"),
        ("x = 1", "machines.NAME"),
        ("[machines.a]\ncpus = 1\nmemory_gb = 1", "price_per_hour"),
        ("[machines.a]\ncpus = 1\nmemory_gb = 1\nprice_per_hour = -1", "price_per_hour"),
        ("[machines.a]\ncpus = 1\nmemory_gb = 1\nprice_per_hour = 0.0000001", "six decimals"),
        ("[machines.a]\ncpus = nan\nmemory_gb = 1\nprice_per_hour = 1", "cpus"),
        ("[machines.a]\ncpu = 1\nmemory_gb = 1\nprice_per_hour = 1", "'cpu'"),
        ("[machines.A]\ncpus = 1\nmemory_gb = 1\nprice_per_hour = 1", "machines.A"),
        ("machines = 3", "machines.NAME"),
    ],
)
def test_a_wrong_price_list_keeps_the_old_prices_and_says_why(tmp_path: Path, text: str, says: str) -> None:
    prices = PriceList(tmp_path / "prices.toml")
    _write(prices, tmp_path, text)
    assert "cpu-1" in prices.machines()
    assert says in prices.problem
    with pytest.raises(Invalid):
        PriceList(tmp_path / "prices.toml")


def _write(prices: PriceList, folder: Path, text: str) -> None:
    file = folder / "prices.toml"
    file.write_text(text)
    # A clock of coarse grain must not hide the change from the test.
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 10**9))


def test_what_runs_over_the_end_of_a_month_counts_in_each_month_for_its_part(
    cloud: Cloud, settings_clock: Clock, job: Object
) -> None:
    november = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    _budget(cloud, 10 * PRICE, period="month")
    money = Money(cloud.db, cloud.money.prices, settings_clock)
    money.place_hold("a1", job, "cpu-1", november - 3600)
    money.open_segment("a1", job, "cpu-1", november - 3600)
    settings_clock.now = november + 1800
    money.extend_holds(settings_clock.now)
    running = money.budget_uses("default")[0]
    assert (running.spent_uc, running.held_uc) == (0, PRICE // 2 + MINUTE)
    money.close_segment("a1", settings_clock.now)
    assert money.budget_uses("default")[0].spent_uc == PRICE // 2
    october, both = money.bill("default", until=november), money.bill("default")
    assert (october.total_uc, both.total_uc) == (PRICE, PRICE * 3 // 2)

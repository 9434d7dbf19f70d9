"""What running costs and who may spend it: price list, usage segments, holds, budgets, ledger and bill.

Money is integer micro-credits (1 credit = 1 000 000), time is integer microseconds; nothing is computed in
floating point. A charge is duration x price, rounded down to a whole micro-credit once, at the close of its
segment; holds are rounded up, so that a hold always covers the charge of the time it was made for.
"""

from blixt.cloud.money.amounts import charge_uc, credits_text, hold_uc
from blixt.cloud.money.bill import Bill, BillLine
from blixt.cloud.money.budgets import BudgetUse
from blixt.cloud.money.ledger import LedgerEntry
from blixt.cloud.money.money import Money
from blixt.cloud.money.prices import Machine, PriceList

__all__ = [
    "Bill",
    "BillLine",
    "BudgetUse",
    "LedgerEntry",
    "Machine",
    "Money",
    "PriceList",
    "charge_uc",
    "credits_text",
    "hold_uc",
]

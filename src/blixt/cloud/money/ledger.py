"""The double-entry ledger: every transaction moves money between accounts, so all entries sum to zero."""

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from blixt.cloud.db import Session
from blixt.cloud.db.tables import ledger_accounts, ledger_entries

INCOME = "income:compute"


@dataclass(frozen=True)
class LedgerEntry:
    """One side of a transaction. The other sides carry the same `transaction`."""

    id: int
    transaction: str
    account: str
    amount_uc: int
    memo: str
    at: float

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the API sends it."""
        return asdict(self)


def teamspace_account(teamspace: str) -> str:
    """Return the account of a teamspace; what it has spent is its negative balance."""
    return f"teamspace:{teamspace}"


def post(s: Session, transaction: str, moves: dict[str, int], memo: str, at: float) -> None:
    """Post a transaction once: its accounts and amounts sum to zero, a repeat breaks a unique key.

    Raises:
        ValueError: When the moves do not sum to zero.
    """
    if sum(moves.values()) != 0:
        raise ValueError(f"transaction {transaction} does not balance: {moves}")
    for account, amount in moves.items():
        balance = ledger_accounts.c.balance_uc + amount
        found = s.execute(
            ledger_accounts.update().where(ledger_accounts.c.name == account).values(balance_uc=balance)
        )
        if found.rowcount == 0:
            s.execute(ledger_accounts.insert().values(name=account, balance_uc=amount, created_at=at))
        s.execute(
            ledger_entries.insert().values(
                transaction=transaction, account=account, amount_uc=amount, memo=memo, at=at
            )
        )


def balance_uc(s: Session, account: str) -> int:
    """Return an account's balance, 0 when it does not exist."""
    return s.scalar(sa.select(ledger_accounts.c.balance_uc).where(ledger_accounts.c.name == account)) or 0


def entries(s: Session, account: str, limit: int) -> list[LedgerEntry]:
    """Return an account's newest entries, newest first."""
    query = (
        sa.select(ledger_entries)
        .where(ledger_entries.c.account == account)
        .order_by(ledger_entries.c.id.desc())
        .limit(limit)
    )
    return [LedgerEntry(**row) for row in s.execute(query).mappings()]


def check(s: Session) -> str:
    """Return what is wrong with the books, empty when nothing: entries sum to zero and make the balances."""
    total = s.scalar(sa.select(sa.func.sum(ledger_entries.c.amount_uc))) or 0
    if total != 0:
        return f"all entries sum to {total}, not zero"
    sums = sa.select(ledger_entries.c.account, sa.func.sum(ledger_entries.c.amount_uc)).group_by(
        ledger_entries.c.account
    )
    balances = sa.select(ledger_accounts.c.name, ledger_accounts.c.balance_uc)
    by_entries = {account: int(amount) for account, amount in s.execute(sums)}
    recorded = {account: int(amount) for account, amount in s.execute(balances)}
    return "" if by_entries == recorded else f"balances {recorded} differ from entries {by_entries}"

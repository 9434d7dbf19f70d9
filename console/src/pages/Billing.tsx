import { useState } from "react";
import { Link } from "react-router";
import { useBill, useLedger, useList } from "@/api/queries";
import type { BillLine, Budget, LedgerEntry } from "@/api/types";
import { Button } from "@/components/Button";
import { Empty } from "@/components/Empty";
import { Page, Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { useLiveBill } from "@/components/live-bill";
import { useRole } from "@/components/role";
import { useTs } from "@/lib/hooks";
import { creditNumber, credits } from "@/lib/money";
import { duration, stamp } from "@/lib/time";
import { BudgetForm, EditBudget } from "./BudgetForm";

export default function Billing() {
  const ts = useTs();
  const { bill, prices, error } = useLiveBill(ts);
  const budgetUc = useBill(ts).data?.budget_uc ?? null;
  return (
    <Page
      title="Billing"
      lead="Every second that a machine runs for this teamspace, at that machine's price. Open lines tick until they close."
    >
      <Problem error={error} />
      {bill && !bill.lines.length ? (
        <Empty title="Nothing on the bill yet" command="blixt machines">
          What you start appears here at once, with its price. This shows what machines cost:
        </Empty>
      ) : null}
      {bill?.lines.length ? (
        <Lines ts={ts} lines={bill.lines} totalUc={bill.totalUc} rateUc={bill.rateUc} prices={prices} />
      ) : null}
      <Budgets ts={ts} limited={budgetUc !== null} />
      <Ledger ts={ts} />
    </Page>
  );
}

interface LinesProps {
  ts: string;
  lines: BillLine[];
  totalUc: number;
  rateUc: number;
  prices: ReadonlyMap<string, number>;
}

function Lines({ ts, lines, totalUc, rateUc, prices }: LinesProps) {
  const columns: Column<BillLine>[] = [
    {
      name: "Name",
      header: true,
      sort: (l) => l.name,
      cell: (l) => <Link to={`/t/${ts}/${l.kind}s/${l.name}`}>{l.name}</Link>,
    },
    { name: "Kind", wide: true, sort: (l) => l.kind, cell: (l) => l.kind },
    { name: "Machine", wide: true, sort: (l) => l.machine, cell: (l) => l.machine },
    {
      name: "State",
      sort: (l) => String(l.open),
      cell: (l) => <State state={l.open ? "running" : "closed"} />,
    },
    {
      name: "Per hour",
      numeric: true,
      wide: true,
      sort: (l) => prices.get(l.machine),
      cell: (l) => credits(prices.get(l.machine)),
    },
    { name: "Time", numeric: true, sort: (l) => l.seconds, cell: (l) => duration(l.seconds) },
    { name: "Amount", numeric: true, sort: (l) => l.amount_uc, cell: (l) => credits(l.amount_uc) },
  ];
  const foot = (
    <tr>
      <th scope="row">Total</th>
      <td className="wide" />
      <td className="wide" />
      <td />
      <td className="numeric wide">{rateUc ? `${credits(rateUc)} now` : ""}</td>
      <td />
      <td className="numeric">{credits(totalUc)}</td>
    </tr>
  );
  return (
    <Section title="Bill">
      <Table
        label="Bill"
        columns={columns}
        items={lines}
        rowKey={(l) => `${l.uid}/${l.machine}`}
        foot={foot}
      />
    </Section>
  );
}

function Budgets({ ts, limited }: { ts: string; limited: boolean }) {
  const list = useList(ts, "budgets");
  const [creating, setCreating] = useState(false);
  const [editing, setEditing] = useState<Budget | null>(null);
  const items = list.data?.items ?? [];
  const isOwner = useRole() === "owner";
  return (
    <Section
      title="Budget"
      actions={
        isOwner ? (
          <Button size="small" look={limited ? "plain" : "primary"} onClick={() => setCreating(true)}>
            {items.length ? "Add a budget" : "Set a budget"}
          </Button>
        ) : null
      }
    >
      <Problem error={list.error} />
      {items.length ? null : (
        <p className="quiet">No limit is set. With one, nothing starts that it could not pay for.</p>
      )}
      <div className="cards">
        {items.map((budget) => (
          <BudgetCard
            key={budget.uid}
            ts={ts}
            budget={budget}
            onEdit={isOwner ? () => setEditing(budget) : null}
          />
        ))}
      </div>
      {creating ? (
        <BudgetForm ts={ts} taken={items.map((b) => b.name)} onClose={() => setCreating(false)} />
      ) : null}
      {editing ? <EditBudget ts={ts} budget={editing} onClose={() => setEditing(null)} /> : null}
    </Section>
  );
}

function BudgetCard({ ts, budget, onEdit }: { ts: string; budget: Budget; onEdit: (() => void) | null }) {
  const fresh = useBill(ts).data?.budgets?.find((use) => use.name === budget.name) ?? budget.status;
  const { limit_uc, period, applies_to } = budget.spec;
  const spent = fresh.spent_uc ?? 0;
  const held = fresh.held_uc ?? 0;
  const share = (uc: number) => `${limit_uc ? Math.min(100, (100 * uc) / limit_uc) : 100}%`;
  return (
    <div className="card">
      <div className="row">
        <h3>{applies_to === "teamspace" ? "Whole teamspace" : applies_to.replace("user:", "User ")}</h3>
        {onEdit ? (
          <Button size="small" aria-label={`Edit budget ${budget.name}`} onClick={onEdit}>
            Edit
          </Button>
        ) : null}
      </div>
      <div className="gauge" aria-hidden="true">
        <span className="gauge-spent" style={{ width: share(spent) }} />
        <span className="gauge-held" style={{ width: share(held) }} />
      </div>
      <p>
        <b>{creditNumber(Math.max(0, limit_uc - spent - held), 2)}</b> of {creditNumber(limit_uc, 2)} cr left
        {period === "month" ? " this month" : ""}
      </p>
      <p className="quiet">
        {credits(spent)} spent, {credits(held)} held for what is running
      </p>
    </div>
  );
}

function Ledger({ ts }: { ts: string }) {
  const ledger = useLedger(ts);
  const items = ledger.data?.items ?? [];
  const columns: Column<LedgerEntry>[] = [
    { name: "Time", header: true, sort: (e) => e.at, cell: (e) => stamp(e.at) },
    { name: "For", cell: (e) => <span className="clip">{e.memo}</span> },
    { name: "Transaction", wide: true, cell: (e) => <code className="clip">{e.transaction}</code> },
    { name: "Amount", numeric: true, sort: (e) => e.amount_uc, cell: (e) => credits(e.amount_uc) },
  ];
  return (
    <Section title="Ledger">
      <Problem error={ledger.error} />
      {items.length ? (
        <Table label="Ledger" columns={columns} items={items} rowKey={(e) => String(e.id)} />
      ) : (
        <p className="quiet">A line is posted here when something stops: the final amount, once.</p>
      )}
    </Section>
  );
}

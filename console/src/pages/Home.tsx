import { Link } from "react-router";
import { useList } from "@/api/queries";
import type { BillLine, Job } from "@/api/types";
import { Command } from "@/components/Copy";
import { Page, Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { useLiveBill } from "@/components/live-bill";
import { useNow, useTs } from "@/lib/hooks";
import { creditNumber, credits } from "@/lib/money";
import { ago, duration } from "@/lib/time";

/** What runs, what it costs, and how to start the next thing. */
export function Home() {
  const ts = useTs();
  const { bill, prices, error } = useLiveBill(ts);
  const open = bill?.lines.filter((line) => line.open) ?? [];
  return (
    <Page title="Home">
      <Problem error={error} />
      <div className="figures">
        <Figure
          label="Running now"
          value={String(open.length)}
          note={open.length === 1 ? "machine" : "machines"}
          live={open.length > 0}
        />
        <Figure label="Costs now" value={creditNumber(bill?.rateUc ?? 0)} note="cr per hour" />
        <Figure label="Spent so far" value={creditNumber(bill?.totalUc ?? 0)} note="cr" />
        <Figure
          label="Budget left"
          value={bill?.remainingUc == null ? "No limit" : creditNumber(bill.remainingUc, 2)}
          note={
            bill?.remainingUc == null
              ? ""
              : bill.rateUc > 0
                ? `cr, enough for ${duration((bill.remainingUc / bill.rateUc) * 3600)}`
                : "cr"
          }
        />
      </div>
      <Section title="Running now">
        {open.length ? (
          <Running lines={open} prices={prices} ts={ts} />
        ) : (
          <p className="quiet">Nothing is running, so nothing is being billed.</p>
        )}
      </Section>
      <RecentJobs ts={ts} />
      <QuickStarts />
    </Page>
  );
}

function Figure({
  label,
  value,
  note,
  live = false,
}: {
  label: string;
  value: string;
  note: string;
  live?: boolean;
}) {
  return (
    <div className={`figure ${live ? "figure-live" : ""}`}>
      <p className="figure-label">{label}</p>
      <p className="figure-value">
        {value} <small>{note}</small>
      </p>
    </div>
  );
}

function Running({
  lines,
  prices,
  ts,
}: {
  lines: BillLine[];
  prices: ReadonlyMap<string, number>;
  ts: string;
}) {
  const columns: Column<BillLine>[] = [
    {
      name: "Name",
      header: true,
      sort: (l) => l.name,
      cell: (l) => <Link to={`/t/${ts}/${l.kind}s/${l.name}`}>{l.name}</Link>,
    },
    { name: "Kind", sort: (l) => l.kind, cell: (l) => l.kind },
    { name: "Machine", wide: true, sort: (l) => l.machine, cell: (l) => l.machine },
    { name: "Time", numeric: true, sort: (l) => l.seconds, cell: (l) => duration(l.seconds) },
    {
      name: "Per hour",
      numeric: true,
      wide: true,
      sort: (l) => prices.get(l.machine),
      cell: (l) => credits(prices.get(l.machine)),
    },
    { name: "So far", numeric: true, sort: (l) => l.amount_uc, cell: (l) => credits(l.amount_uc) },
  ];
  return (
    <Table
      label="Running now"
      columns={columns}
      items={lines}
      rowKey={(l) => `${l.uid}/${l.machine}/${l.name}`}
    />
  );
}

function RecentJobs({ ts }: { ts: string }) {
  const now = useNow();
  const jobs = useList(ts, "jobs").data?.items ?? [];
  const recent = [...jobs].sort((a, b) => b.created_at - a.created_at).slice(0, 5);
  if (!recent.length) return null;
  const columns: Column<Job>[] = [
    { name: "Job", header: true, cell: (j) => <Link to={`/t/${ts}/jobs/${j.name}`}>{j.name}</Link> },
    { name: "State", cell: (j) => <State state={j.status.state} deleting={j.deleting} /> },
    { name: "Reason", wide: true, cell: (j) => <span className="clip">{j.status.reason ?? ""}</span> },
    { name: "Created", numeric: true, cell: (j) => ago(j.created_at, now) },
  ];
  return (
    <Section title="Recent jobs" actions={<Link to={`/t/${ts}/jobs`}>All jobs</Link>}>
      <Table label="Recent jobs" columns={columns} items={recent} rowKey={(j) => j.uid} />
    </Section>
  );
}

const STARTS: [string, string, string][] = [
  [
    "Open a Studio",
    "A machine with your files, JupyterLab and a terminal. It keeps everything when it stops.",
    "blixt studio create my-studio",
  ],
  [
    "Run a Job",
    "Sends this folder and a command to a machine, follows its log, and bills by the second.",
    "blixt run -- python train.py",
  ],
  [
    "Deploy a model",
    "An OpenAI-compatible address that sleeps at zero replicas and wakes on the first request.",
    "blixt deploy chat --model my-model",
  ],
];

function QuickStarts() {
  return (
    <Section title="Start something">
      <div className="cards">
        {STARTS.map(([title, text, command]) => (
          <div className="card" key={title}>
            <h3>{title}</h3>
            <p>{text}</p>
            <Command>{command}</Command>
          </div>
        ))}
      </div>
    </Section>
  );
}

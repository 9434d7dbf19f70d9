import { useState } from "react";
import { Link } from "react-router";
import { useList } from "@/api/queries";
import type { Job } from "@/api/types";
import { Button } from "@/components/Button";
import { Empty, Loading } from "@/components/Empty";
import { Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { useNow, useTs } from "@/lib/hooks";
import { commandLine } from "@/lib/env";
import { ago, duration } from "@/lib/time";
import { JobForm } from "./JobForm";

export default function Jobs() {
  const ts = useTs();
  const list = useList(ts, "jobs");
  const [creating, setCreating] = useState(false);
  const items = list.data?.items;
  return (
    <Page
      title="Jobs"
      actions={
        <Button look="primary" onClick={() => setCreating(true)}>
          New Job
        </Button>
      }
    >
      <Problem error={list.error} onRetry={() => void list.refetch()} />
      {list.isPending ? <Loading what="Jobs" /> : null}
      {items?.length === 0 ? (
        <Empty title="No Job yet" command="blixt run -- python train.py">
          A Job runs a command on a machine and ends. Its log, its curves and what it cost stay.
        </Empty>
      ) : null}
      {items?.length ? <JobTable items={items} ts={ts} /> : null}
      {creating ? (
        <JobForm ts={ts} taken={items?.map((j) => j.name) ?? []} onClose={() => setCreating(false)} />
      ) : null}
    </Page>
  );
}

function JobTable({ items, ts }: { items: Job[]; ts: string }) {
  const now = useNow();
  const columns: Column<Job>[] = [
    {
      name: "Name",
      header: true,
      sort: (j) => j.name,
      cell: (j) => <Link to={`/t/${ts}/jobs/${j.name}`}>{j.name}</Link>,
    },
    {
      name: "State",
      sort: (j) => j.status.state,
      cell: (j) => <State state={j.status.state} deleting={j.deleting} />,
    },
    { name: "Command", wide: true, cell: (j) => <code className="clip">{commandLine(j.spec.command)}</code> },
    { name: "Machine", wide: true, sort: (j) => j.spec.machine, cell: (j) => machines(j) },
    { name: "Time", numeric: true, sort: (j) => runTime(j, now), cell: (j) => duration(runTime(j, now)) },
    {
      name: "Created",
      numeric: true,
      wide: true,
      sort: (j) => j.created_at,
      cell: (j) => ago(j.created_at, now),
    },
  ];
  return (
    <Table
      label="Jobs"
      columns={columns}
      items={items}
      rowKey={(j) => j.uid}
      initial={{ column: "Created", descending: true }}
    />
  );
}

/** "cpu-1", "2 × cpu-4". */
export function machines(job: Job): string {
  return job.spec.machines > 1 ? `${job.spec.machines} × ${job.spec.machine}` : job.spec.machine;
}

/** Seconds from start to end, or to now. */
export function runTime(job: Job, now: number): number | null {
  const { started_at, finished_at } = job.status;
  return started_at ? (finished_at ?? now) - started_at : null;
}

import { Link } from "react-router";
import { remove } from "@/api/actions";
import { useList } from "@/api/queries";
import type { Experiment } from "@/api/types";
import { Button } from "@/components/Button";
import { Empty, Loading } from "@/components/Empty";
import { Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { type Column, Table } from "@/components/Table";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { useCanWork } from "@/components/role";
import { useNow, useTs } from "@/lib/hooks";
import { ago, stamp } from "@/lib/time";

export default function Experiments() {
  const ts = useTs();
  const list = useList(ts, "experiments");
  const items = list.data?.items;
  return (
    <Page title="Experiments">
      <Problem error={list.error} onRetry={() => void list.refetch()} />
      {list.isPending ? <Loading what="Experiments" /> : null}
      {items?.length === 0 ? (
        <Empty title="No Experiment yet" command="blixt run --experiment first -- python train.py">
          An Experiment gathers runs and their curves. Any Job that trains with <code>blixt.Trainer</code>{" "}
          makes one by itself.
        </Empty>
      ) : null}
      {items?.length ? <ExperimentTable items={items} ts={ts} /> : null}
    </Page>
  );
}

function ExperimentTable({ items, ts }: { items: Experiment[]; ts: string }) {
  const now = useNow();
  const columns: Column<Experiment>[] = [
    {
      name: "Name",
      header: true,
      sort: (e) => e.name,
      cell: (e) => <Link to={`/t/${ts}/experiments/${e.name}`}>{e.name}</Link>,
    },
    {
      name: "Description",
      wide: true,
      cell: (e) => <span className="clip">{e.spec.description || "–"}</span>,
    },
    { name: "Runs", numeric: true, sort: (e) => e.status.runs, cell: (e) => e.status.runs ?? 0 },
    { name: "Owner", wide: true, sort: (e) => e.owner, cell: (e) => e.owner },
    {
      name: "Created",
      numeric: true,
      sort: (e) => e.created_at,
      cell: (e) => <span title={stamp(e.created_at)}>{ago(e.created_at, now)}</span>,
    },
    { name: "Actions", hideName: true, cell: (e) => <Erase ts={ts} name={e.name} /> },
  ];
  return (
    <Table
      label="Experiments"
      columns={columns}
      items={items}
      rowKey={(e) => e.uid}
      initial={{ column: "Created", descending: true }}
    />
  );
}

function Erase({ ts, name }: { ts: string; name: string }) {
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const canWork = useCanWork();
  const erase = async () => {
    const body = <p>This deletes the Experiment with all its runs and metrics. There is no way back.</p>;
    if (!(await confirm({ title: `Delete ${name}?`, body, action: "Delete Experiment" }))) return;
    void run(() => remove(ts, "experiments", name), `Deleted ${name}.`);
  };
  if (!canWork) return null;
  return (
    <Button look="quiet" size="small" busy={busy} aria-label={`Delete ${name}`} onClick={() => void erase()}>
      Delete
    </Button>
  );
}

import { useState } from "react";
import { Link } from "react-router";
import { useList } from "@/api/queries";
import type { Studio } from "@/api/types";
import { Button } from "@/components/Button";
import { Empty, Loading } from "@/components/Empty";
import { Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { useNow, useTs } from "@/lib/hooks";
import { duration, stamp } from "@/lib/time";
import { StudioForm } from "./StudioForm";
import { StudioSwitch } from "./StudioSwitch";

export default function Studios() {
  const ts = useTs();
  const list = useList(ts, "studios");
  const [creating, setCreating] = useState(false);
  const items = list.data?.items;
  return (
    <Page
      title="Studios"
      actions={
        <Button look="primary" onClick={() => setCreating(true)}>
          New Studio
        </Button>
      }
    >
      <Problem error={list.error} onRetry={() => void list.refetch()} />
      {list.isPending ? <Loading what="Studios" /> : null}
      {items?.length === 0 ? (
        <Empty title="No Studio yet" command="blixt studio create my-studio">
          A Studio is a machine of your own with JupyterLab and a terminal. Stop it and it costs nothing; its
          files stay.
        </Empty>
      ) : null}
      {items?.length ? <StudioTable items={items} ts={ts} /> : null}
      {creating ? (
        <StudioForm ts={ts} taken={items?.map((s) => s.name) ?? []} onClose={() => setCreating(false)} />
      ) : null}
    </Page>
  );
}

function StudioTable({ items, ts }: { items: Studio[]; ts: string }) {
  const now = useNow();
  const columns: Column<Studio>[] = [
    {
      name: "Name",
      header: true,
      sort: (s) => s.name,
      cell: (s) => <Link to={`/t/${ts}/studios/${s.name}`}>{s.name}</Link>,
    },
    {
      name: "State",
      sort: (s) => s.status.state,
      cell: (s) => <State state={s.status.state} deleting={s.deleting} />,
    },
    { name: "Machine", wide: true, sort: (s) => s.spec.machine, cell: (s) => s.spec.machine },
    { name: "Owner", wide: true, sort: (s) => s.owner, cell: (s) => s.owner },
    {
      name: "Up for",
      numeric: true,
      wide: true,
      sort: (s) => s.status.started_at,
      cell: (s) =>
        s.status.state === "running" && s.status.started_at ? duration(now - s.status.started_at) : "–",
    },
    {
      name: "Created",
      numeric: true,
      wide: true,
      sort: (s) => s.created_at,
      cell: (s) => stamp(s.created_at),
    },
    { name: "Actions", hideName: true, cell: (s) => <StudioSwitch ts={ts} studio={s} size="small" /> },
  ];
  return (
    <Table
      label="Studios"
      columns={columns}
      items={items}
      rowKey={(s) => s.uid}
      initial={{ column: "Name" }}
    />
  );
}

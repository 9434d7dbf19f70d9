import { Link } from "react-router";
import { useList } from "@/api/queries";
import type { Model } from "@/api/types";
import { Empty, Loading } from "@/components/Empty";
import { Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { type Column, Table } from "@/components/Table";
import { useNow, useTs } from "@/lib/hooks";
import { ago } from "@/lib/time";

export default function Models() {
  const ts = useTs();
  const list = useList(ts, "models");
  const items = list.data?.items;
  return (
    <Page title="Models">
      <Problem error={list.error} onRetry={() => void list.refetch()} />
      {list.isPending ? <Loading what="Models" /> : null}
      {items?.length === 0 ? (
        <Empty title="No Model yet" command="blixt run --model my-model -- python train.py">
          A Model is a name with versions. What a Job leaves in <code>$BLIXT_MODEL_OUT</code> becomes a new
          version.
        </Empty>
      ) : null}
      {items?.length ? <ModelTable items={items} ts={ts} /> : null}
    </Page>
  );
}

function ModelTable({ items, ts }: { items: Model[]; ts: string }) {
  const now = useNow();
  const columns: Column<Model>[] = [
    {
      name: "Name",
      header: true,
      sort: (m) => m.name,
      cell: (m) => <Link to={`/t/${ts}/models/${m.name}`}>{m.name}</Link>,
    },
    {
      name: "Newest",
      sort: (m) => m.status.latest_version,
      cell: (m) => (m.status.latest_version ? `v${m.status.latest_version}` : "–"),
    },
    {
      name: "Description",
      wide: true,
      cell: (m) => <span className="clip">{m.spec.description || "–"}</span>,
    },
    { name: "Owner", wide: true, sort: (m) => m.owner, cell: (m) => m.owner },
    { name: "Created", numeric: true, sort: (m) => m.created_at, cell: (m) => ago(m.created_at, now) },
  ];
  return (
    <Table
      label="Models"
      columns={columns}
      items={items}
      rowKey={(m) => m.uid}
      initial={{ column: "Name" }}
    />
  );
}

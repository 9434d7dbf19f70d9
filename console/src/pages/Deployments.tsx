import { useState } from "react";
import { Link } from "react-router";
import { useList } from "@/api/queries";
import type { Deployment } from "@/api/types";
import { Button } from "@/components/Button";
import { Empty, Loading } from "@/components/Empty";
import { Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { commandLine } from "@/lib/env";
import { useTs } from "@/lib/hooks";
import { DeploymentForm } from "./DeploymentForm";

export default function Deployments() {
  const ts = useTs();
  const list = useList(ts, "deployments");
  const [creating, setCreating] = useState(false);
  const items = list.data?.items;
  return (
    <Page
      title="Deployments"
      actions={
        <Button look="primary" onClick={() => setCreating(true)}>
          New Deployment
        </Button>
      }
    >
      <Problem error={list.error} onRetry={() => void list.refetch()} />
      {list.isPending ? <Loading what="Deployments" /> : null}
      {items?.length === 0 ? (
        <Empty title="No Deployment yet" command="blixt deploy chat --model my-model">
          A Deployment is a model or a program behind an address. It sleeps at zero replicas and wakes on the
          first request.
        </Empty>
      ) : null}
      {items?.length ? <DeploymentTable items={items} ts={ts} /> : null}
      {creating ? (
        <DeploymentForm ts={ts} taken={items?.map((d) => d.name) ?? []} onClose={() => setCreating(false)} />
      ) : null}
    </Page>
  );
}

function DeploymentTable({ items, ts }: { items: Deployment[]; ts: string }) {
  const columns: Column<Deployment>[] = [
    {
      name: "Name",
      header: true,
      sort: (d) => d.name,
      cell: (d) => <Link to={`/t/${ts}/deployments/${d.name}`}>{d.name}</Link>,
    },
    {
      name: "State",
      sort: (d) => d.status.state,
      cell: (d) => <State state={d.status.state} deleting={d.deleting} />,
    },
    {
      name: "Serves",
      wide: true,
      cell: (d) => d.spec.model ?? <code className="clip">{commandLine(d.spec.command)}</code>,
    },
    {
      name: "Replicas",
      numeric: true,
      sort: readyReplicas,
      cell: (d) => `${readyReplicas(d)} of ${d.spec.max_replicas}`,
    },
    {
      name: "In flight",
      numeric: true,
      wide: true,
      sort: (d) => d.status.in_flight,
      cell: (d) => d.status.in_flight ?? 0,
    },
    {
      name: "Requests",
      numeric: true,
      sort: (d) => d.status.requests_total,
      cell: (d) => (d.status.requests_total ?? 0).toLocaleString("en-US"),
    },
    {
      name: "Open to",
      wide: true,
      sort: (d) => String(d.spec.public),
      cell: (d) => (d.spec.public ? "everyone" : "members"),
    },
  ];
  return (
    <Table
      label="Deployments"
      columns={columns}
      items={items}
      rowKey={(d) => d.uid}
      initial={{ column: "Name" }}
    />
  );
}

export function readyReplicas(deployment: Deployment): number {
  return deployment.status.replicas?.filter((replica) => replica.state === "ready").length ?? 0;
}

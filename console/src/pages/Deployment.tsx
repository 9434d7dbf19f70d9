import { useState } from "react";
import { useNavigate, useParams } from "react-router";
import { command, remove } from "@/api/actions";
import { useObject } from "@/api/queries";
import type { Deployment, Replica } from "@/api/types";
import { Button } from "@/components/Button";
import { CopyButton } from "@/components/Copy";
import { EditDialog } from "@/components/EditDialog";
import { Loading } from "@/components/Empty";
import { IdleField } from "@/components/IdleField";
import { LogView } from "@/components/LogView";
import { MachineField } from "@/components/MachineField";
import { NumberField } from "@/components/NumberField";
import { Facts, Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { Tabs } from "@/components/Tabs";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { commandLine } from "@/lib/env";
import { useNow, useTs } from "@/lib/hooks";
import { duration } from "@/lib/time";
import { readyReplicas } from "./Deployments";
import { Playground } from "./Playground";
import { Snippets } from "./Snippets";

export default function DeploymentPage() {
  const ts = useTs();
  const { name = "" } = useParams();
  const { object: deployment, error, isPending } = useObject(ts, "deployments", name);
  const up = { to: `/t/${ts}/deployments`, label: "Deployments" };
  if (!deployment) {
    return (
      <Page title={name} up={up}>
        {isPending ? <Loading what="Deployment" /> : <Problem error={error} />}
      </Page>
    );
  }
  const address = `${location.origin}/d/${ts}/${name}`;
  return (
    <Page
      title={name}
      up={up}
      aside={<State state={deployment.status.state} deleting={deployment.deleting} />}
      actions={<DeploymentActions ts={ts} deployment={deployment} />}
      lead={deployment.status.reason}
    >
      <DeploymentFacts deployment={deployment} address={address} />
      <Tabs
        label={`About ${name}`}
        tabs={[
          { id: "try", label: "Try it", body: () => <Playground key={deployment.uid} address={address} /> },
          {
            id: "code",
            label: "Use it from code",
            body: () => <Snippets deployment={deployment} address={address} />,
          },
          {
            id: "replicas",
            label: "Replicas",
            body: () => <Replicas replicas={deployment.status.replicas ?? []} />,
          },
          { id: "logs", label: "Logs", body: () => <DeploymentLog ts={ts} deployment={deployment} /> },
        ]}
      />
    </Page>
  );
}

function DeploymentActions({ ts, deployment }: { ts: string; deployment: Deployment }) {
  const { run, busy } = useAction();
  const [editing, setEditing] = useState(false);
  const confirm = useConfirm();
  const navigate = useNavigate();
  const { name, spec, deleting } = deployment;
  const stopped = spec.desired === "stopped";
  const erase = async () => {
    const body = <p>Its address stops answering at once. Requests in flight are ended.</p>;
    if (!(await confirm({ title: `Delete ${name}?`, body, action: "Delete Deployment" }))) return;
    if (await run(() => remove(ts, "deployments", name), `Deleting ${name}.`))
      void navigate(`/t/${ts}/deployments`);
  };
  return (
    <>
      <Button
        busy={busy}
        disabled={deleting}
        onClick={() => void run(() => command(ts, "deployments", name, stopped ? "start" : "stop"))}
      >
        {stopped ? "Start" : "Stop"}
      </Button>
      <Button onClick={() => setEditing(true)}>Edit</Button>
      <Button look="danger" busy={busy} disabled={deleting} onClick={() => void erase()}>
        Delete
      </Button>
      {editing ? <EditDeployment ts={ts} deployment={deployment} onClose={() => setEditing(false)} /> : null}
    </>
  );
}

function EditDeployment({
  ts,
  deployment,
  onClose,
}: {
  ts: string;
  deployment: Deployment;
  onClose: () => void;
}) {
  return (
    <EditDialog ts={ts} plural="deployments" object={deployment} onClose={onClose}>
      {(spec, change) => (
        <>
          <MachineField value={spec.machine} onChange={(machine) => change({ machine })} />
          <div className="columns">
            <NumberField
              label="Least replicas"
              min={0}
              value={spec.min_replicas}
              onChange={(n) => change({ min_replicas: n, max_replicas: Math.max(n, spec.max_replicas) })}
            />
            <NumberField
              label="Most replicas"
              value={spec.max_replicas}
              onChange={(n) => change({ max_replicas: n, min_replicas: Math.min(n, spec.min_replicas) })}
            />
            <NumberField
              label="Requests at once per replica"
              max={10_000}
              value={spec.concurrency}
              onChange={(concurrency) => change({ concurrency })}
            />
            <IdleField
              label="Sleep when idle"
              never={false}
              value={spec.idle_timeout_s}
              onChange={(idle_timeout_s) => change({ idle_timeout_s })}
            />
          </div>
        </>
      )}
    </EditDialog>
  );
}

function DeploymentFacts({ deployment, address }: { deployment: Deployment; address: string }) {
  const { spec, status } = deployment;
  return (
    <Facts
      items={[
        ["Replicas", `${readyReplicas(deployment)} ready, ${spec.min_replicas} to ${spec.max_replicas}`],
        ["In flight", status.in_flight ?? 0],
        ["Requests", (status.requests_total ?? 0).toLocaleString("en-US")],
        ["Serves", spec.model ?? <code className="clip">{commandLine(spec.command)}</code>],
        ["Machine", spec.machine],
        ["Sleeps when idle", spec.min_replicas ? "never" : `after ${duration(spec.idle_timeout_s)}`],
        ["Open to", spec.public ? "everyone" : "members"],
        [
          "Address",
          <span className="with-copy">
            <code>{address}</code>
            <CopyButton text={address} what="address" />
          </span>,
        ],
      ]}
    />
  );
}

function Replicas({ replicas }: { replicas: Replica[] }) {
  const now = useNow();
  if (!replicas.length) return <p className="quiet">No replica is up. The next request starts one.</p>;
  const columns: Column<Replica>[] = [
    { name: "Replica", header: true, cell: (r) => <code>{r.id}</code> },
    { name: "State", cell: (r) => <State state={r.state} /> },
    { name: "Up for", numeric: true, cell: (r) => duration(r.started_at ? now - r.started_at : null) },
    { name: "Restarts", numeric: true, cell: (r) => r.restarts ?? 0 },
  ];
  return <Table label="Replicas" columns={columns} items={replicas} rowKey={(r) => r.id} />;
}

function DeploymentLog({ ts, deployment }: { ts: string; deployment: Deployment }) {
  const replicas = deployment.status.replicas ?? [];
  const [replica, setReplica] = useState("");
  const chosen = replica || replicas[0]?.id;
  const query = chosen ? `?replica=${encodeURIComponent(chosen)}` : "";
  const address = `/api/v1/teamspaces/${ts}/deployments/${deployment.name}/logs${query}`;
  return (
    <LogView address={address} fileName={`${deployment.name}.log`}>
      {replicas.length > 1 ? (
        <label className="inline-select">
          Replica
          <select value={chosen} onChange={(event) => setReplica(event.target.value)}>
            {replicas.map((r) => (
              <option key={r.id}>{r.id}</option>
            ))}
          </select>
        </label>
      ) : null}
    </LogView>
  );
}

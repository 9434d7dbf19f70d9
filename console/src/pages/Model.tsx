import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { remove } from "@/api/actions";
import { useList, useObject, useVersions } from "@/api/queries";
import type { ModelFile, ModelVersion } from "@/api/types";
import { Button } from "@/components/Button";
import { Command } from "@/components/Copy";
import { Loading } from "@/components/Empty";
import { Facts, Page, Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { useCanWork } from "@/components/role";
import { useTs } from "@/lib/hooks";
import { bytes, metric, plural } from "@/lib/numbers";
import { stamp } from "@/lib/time";
import { DeploymentForm } from "./DeploymentForm";

export default function ModelPage() {
  const ts = useTs();
  const { name = "" } = useParams();
  const { object, error } = useObject(ts, "models", name);
  const versions = useVersions(ts, name);
  const [deploying, setDeploying] = useState<ModelVersion | null>(null);
  const taken = useList(ts, "deployments").data?.items.map((d) => d.name) ?? [];
  const newest = versions.data?.find((version) => version.state === "ready");
  return (
    <Page
      title={name}
      up={{ to: `/t/${ts}/models`, label: "Models" }}
      lead={object?.spec.description}
      actions={
        <>
          <Button look="primary" disabled={!newest} onClick={() => setDeploying(newest ?? null)}>
            Deploy
          </Button>
          {object ? <Erase ts={ts} name={name} /> : null}
        </>
      }
    >
      <Problem error={error ?? versions.error} />
      {versions.isPending && !error ? <Loading what="versions" /> : null}
      {versions.data?.map((version) => (
        <Version
          key={version.version}
          ts={ts}
          model={name}
          version={version}
          onDeploy={() => setDeploying(version)}
        />
      ))}
      {versions.data?.length === 0 ? <p className="quiet">No version yet.</p> : null}
      {deploying ? (
        <DeploymentForm
          ts={ts}
          taken={taken}
          model={`${name}:${deploying.version}`}
          onClose={() => setDeploying(null)}
        />
      ) : null}
    </Page>
  );
}

function Version(props: { ts: string; model: string; version: ModelVersion; onDeploy: () => void }) {
  const { ts, model, version } = props;
  const canWork = useCanWork();
  const files = version.files ?? [];
  const size = files.reduce((sum, file) => sum + file.size_bytes, 0);
  const metrics = Object.entries(version.metrics ?? {});
  return (
    <Section
      title={`Version ${version.version}`}
      actions={
        canWork ? (
          <Button size="small" disabled={version.state !== "ready"} onClick={props.onDeploy}>
            Deploy version {version.version}
          </Button>
        ) : null
      }
    >
      <Facts
        items={[
          ["State", <State state={version.state} />],
          ["Size", `${bytes(size)} in ${plural(files.length, "file")}`],
          ["From Job", version.job ? <Link to={`/t/${ts}/jobs/${version.job}`}>{version.job}</Link> : "–"],
          ["Created", stamp(version.created_at)],
          ...metrics.map(([name, value]): [string, string] => [name, metric(value)]),
        ]}
      />
      <FileTable ts={ts} model={model} version={version.version} files={files} />
      <Command>{`blixt model download ${model} --version ${version.version}`}</Command>
    </Section>
  );
}

function FileTable({
  ts,
  model,
  version,
  files,
}: {
  ts: string;
  model: string;
  version: number;
  files: ModelFile[];
}) {
  if (!files.length) return null;
  const address = (file: ModelFile) =>
    `/api/v1/teamspaces/${ts}/models/${model}/versions/${version}/files/${file.path.split("/").map(encodeURIComponent).join("/")}`;
  const columns: Column<ModelFile>[] = [
    {
      name: "File",
      header: true,
      sort: (f) => f.path,
      cell: (f) => (
        <a href={address(f)} download={f.path.split("/").at(-1)}>
          {f.path}
        </a>
      ),
    },
    { name: "Size", numeric: true, sort: (f) => f.size_bytes, cell: (f) => bytes(f.size_bytes) },
    { name: "SHA-256", wide: true, cell: (f) => <code title={f.sha256}>{f.sha256.slice(0, 16)}…</code> },
  ];
  return (
    <Table label={`Files of version ${version}`} columns={columns} items={files} rowKey={(f) => f.path} />
  );
}

function Erase({ ts, name }: { ts: string; name: string }) {
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const navigate = useNavigate();
  const erase = async () => {
    const body = (
      <p>This deletes the Model with every version and file. Deployments of it can no longer start.</p>
    );
    if (!(await confirm({ title: `Delete ${name}?`, body, action: "Delete Model" }))) return;
    if (await run(() => remove(ts, "models", name), `Deleted ${name}.`)) void navigate(`/t/${ts}/models`);
  };
  return (
    <Button look="danger" busy={busy} onClick={() => void erase()}>
      Delete
    </Button>
  );
}

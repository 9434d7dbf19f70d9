import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";
import { command, remove } from "@/api/actions";
import { useObject, useRuns } from "@/api/queries";
import type { Job } from "@/api/types";
import { Button } from "@/components/Button";
import { Curves } from "@/components/Curves";
import { Loading } from "@/components/Empty";
import { LogView } from "@/components/LogView";
import { Facts, Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State, isFinal } from "@/components/State";
import { Tabs } from "@/components/Tabs";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { useLiveBill } from "@/components/live-bill";
import { commandLine } from "@/lib/env";
import { useNow, useTs } from "@/lib/hooks";
import { credits } from "@/lib/money";
import { duration, stamp } from "@/lib/time";
import { machines, runTime } from "./Jobs";

export default function JobPage() {
  const ts = useTs();
  const { name = "" } = useParams();
  const { object: job, error, isPending } = useObject(ts, "jobs", name);
  const up = { to: `/t/${ts}/jobs`, label: "Jobs" };
  if (!job) {
    return (
      <Page title={name} up={up}>
        {isPending ? <Loading what="Job" /> : <Problem error={error} />}
      </Page>
    );
  }
  return (
    <Page
      title={job.name}
      up={up}
      aside={<State state={job.status.state} deleting={job.deleting} />}
      actions={<JobActions ts={ts} job={job} />}
      lead={job.status.reason}
    >
      <p className="job-command">
        <code tabIndex={0}>{commandLine(job.spec.command)}</code>
      </p>
      <JobFacts ts={ts} job={job} />
      <Tabs
        label={`About ${job.name}`}
        tabs={[
          { id: "log", label: "Log", body: () => <JobLog ts={ts} job={job} /> },
          { id: "metrics", label: "Metrics", body: () => <JobMetrics ts={ts} job={job} /> },
          { id: "settings", label: "Settings", body: () => <JobSettings job={job} /> },
        ]}
      />
    </Page>
  );
}

function JobActions({ ts, job }: { ts: string; job: Job }) {
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const navigate = useNavigate();
  const stop = async () => {
    const body = <p>Its command is told to end, then ended. What it wrote and logged so far stays.</p>;
    if (await confirm({ title: `Stop ${job.name}?`, body, action: "Stop Job" }))
      void run(() => command(ts, "jobs", job.name, "stop"));
  };
  const erase = async () => {
    const body = (
      <p>This deletes the Job with its log and files. Its line on the bill and its run's metrics stay.</p>
    );
    if (!(await confirm({ title: `Delete ${job.name}?`, body, action: "Delete Job" }))) return;
    if (await run(() => remove(ts, "jobs", job.name), `Deleting ${job.name}.`))
      void navigate(`/t/${ts}/jobs`);
  };
  const ended = isFinal(job.status.state);
  return (
    <>
      {ended ? null : (
        <Button
          busy={busy}
          disabled={job.deleting || job.spec.desired === "stopped"}
          onClick={() => void stop()}
        >
          Stop
        </Button>
      )}
      <Button look="danger" busy={busy} disabled={job.deleting} onClick={() => void erase()}>
        Delete
      </Button>
    </>
  );
}

function JobFacts({ ts, job }: { ts: string; job: Job }) {
  const now = useNow();
  const { bill } = useLiveBill(ts);
  const cost = bill?.lines
    .filter((line) => line.uid === job.uid)
    .reduce((sum, line) => sum + line.amount_uc, 0);
  const { spec, status } = job;
  const experiment = spec.experiment ?? job.name;
  return (
    <Facts
      items={[
        ["Machine", machines(job)],
        ["Time", duration(runTime(job, now))],
        ["Cost", credits(cost)],
        ["Experiment", <Link to={`/t/${ts}/experiments/${experiment}`}>{experiment}</Link>],
        ...(spec.model
          ? [
              [
                "Model",
                <Link to={`/t/${ts}/models/${spec.model}`}>
                  {spec.model + (status.model_version ? ` v${status.model_version}` : "")}
                </Link>,
              ] as [string, React.ReactNode],
            ]
          : []),
        ["Attempt", `${status.attempt ?? 0} of ${spec.max_restarts + 1}`],
        ["Exit code", status.exit_code ?? "–"],
      ]}
    />
  );
}

function JobLog({ ts, job }: { ts: string; job: Job }) {
  const [rank, setRank] = useState(0);
  const ranks = job.spec.machines * job.spec.processes;
  const address = `/api/v1/teamspaces/${ts}/jobs/${job.name}/logs?rank=${rank}`;
  return (
    <LogView address={address} fileName={`${job.name}-rank${rank}.log`}>
      {ranks > 1 ? (
        <label className="inline-select">
          Rank
          <select value={rank} onChange={(event) => setRank(Number(event.target.value))}>
            {Array.from({ length: ranks }, (_, i) => (
              <option key={i}>{i}</option>
            ))}
          </select>
        </label>
      ) : null}
    </LogView>
  );
}

function JobMetrics({ ts, job }: { ts: string; job: Job }) {
  const experiment = job.spec.experiment ?? job.name;
  const runs = useRuns(ts, experiment);
  const mine =
    runs.data?.filter((run) => run.job === job.name || run.name === job.name || run.id === job.name) ?? [];
  if (runs.isPending) return <Loading what="metrics" />;
  if (!mine.length) {
    return (
      <p className="quiet">
        No metrics yet. A <code>blixt.Trainer</code> reports them by itself; any other program can with{" "}
        <code>blixt.Experiment</code>.
      </p>
    );
  }
  return <Curves ts={ts} experiment={experiment} runs={mine.map((run, i) => ({ run, colour: i % 8 }))} />;
}

function JobSettings({ job }: { job: Job }) {
  const { spec, status } = job;
  const env = Object.entries(spec.env).map(([key, value]) => `${key}=${value}`);
  return (
    <Facts
      items={[
        ["Machines", spec.machines],
        ["Processes per machine", spec.processes],
        ["Restarts after failure", spec.max_restarts],
        ["Time limit", spec.timeout_s ? duration(spec.timeout_s) : "none"],
        ["Files from", spec.studio ?? (spec.source ? `upload ${spec.source.slice(0, 12)}` : "nothing")],
        ["Environment", env.length ? <code>{env.join("  ")}</code> : "none"],
        ["Secrets", spec.secrets.join(", ") || "none"],
        ["Created", `${stamp(job.created_at)} by ${job.owner}`],
        ["Started", stamp(status.started_at)],
        ["Finished", stamp(status.finished_at)],
      ]}
    />
  );
}

import { Suspense, lazy, useState } from "react";
import { useNavigate, useParams } from "react-router";
import { openApp, remove } from "@/api/actions";
import { useMachines, useObject } from "@/api/queries";
import type { Studio } from "@/api/types";
import { Button } from "@/components/Button";
import { EditDialog } from "@/components/EditDialog";
import { Loading } from "@/components/Empty";
import { IdleField } from "@/components/IdleField";
import { MachineField } from "@/components/MachineField";
import { Facts, Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { Tabs } from "@/components/Tabs";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { useCanWork } from "@/components/role";
import { useToast } from "@/components/toast";
import { OpenIcon } from "@/components/icons";
import { useNow, useTs } from "@/lib/hooks";
import { credits } from "@/lib/money";
import { duration, stamp } from "@/lib/time";
import { StudioCommand } from "./StudioCommand";
import { StudioSwitch } from "./StudioSwitch";

const Terminal = lazy(() => import("@/components/Terminal"));

export default function StudioPage() {
  const ts = useTs();
  const { name = "" } = useParams();
  const { object: studio, error, isPending } = useObject(ts, "studios", name);
  const up = { to: `/t/${ts}/studios`, label: "Studios" };
  if (!studio) {
    return (
      <Page title={name} up={up}>
        {isPending ? <Loading what="Studio" /> : <Problem error={error} />}
      </Page>
    );
  }
  return (
    <Page
      title={studio.name}
      up={up}
      aside={<State state={studio.status.state} deleting={studio.deleting} />}
      actions={<StudioActions ts={ts} studio={studio} />}
      lead={studio.status.reason}
    >
      <StudioFacts studio={studio} />
      <StudioTabs ts={ts} studio={studio} />
    </Page>
  );
}

function StudioActions({ ts, studio }: { ts: string; studio: Studio }) {
  const [editing, setEditing] = useState(false);
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const navigate = useNavigate();
  const running = studio.status.state === "running";
  const erase = async () => {
    const body = <p>This deletes the Studio and every file in it. There is no way back.</p>;
    if (!(await confirm({ title: `Delete ${studio.name}?`, body, action: "Delete Studio" }))) return;
    if (await run(() => remove(ts, "studios", studio.name), `Deleting ${studio.name}.`))
      void navigate(`/t/${ts}/studios`);
  };
  return (
    <>
      <OpenJupyter ts={ts} name={studio.name} disabled={!running} />
      <StudioSwitch ts={ts} studio={studio} />
      <Button onClick={() => setEditing(true)}>Edit</Button>
      <Button look="danger" busy={busy} disabled={studio.deleting} onClick={() => void erase()}>
        Delete
      </Button>
      {editing ? (
        <EditDialog ts={ts} plural="studios" object={studio} onClose={() => setEditing(false)}>
          {(spec, change) => (
            <>
              <MachineField value={spec.machine} onChange={(machine) => change({ machine })} />
              <IdleField
                value={spec.idle_timeout_s}
                onChange={(idle_timeout_s) => change({ idle_timeout_s })}
              />
              <p className="field-hint">A new machine is used from the next start.</p>
            </>
          )}
        </EditDialog>
      ) : null}
    </>
  );
}

/** Opens JupyterLab in a new tab, on the Studio's own origin. */
function OpenJupyter({ ts, name, disabled }: { ts: string; name: string; disabled: boolean }) {
  const { run, busy } = useAction();
  const toast = useToast();
  const open = async () => {
    // The tab must be opened by the click itself, or browsers block it; it gets its address afterwards.
    const tab = window.open("about:blank", "_blank");
    if (tab) tab.document.body.textContent = `Starting JupyterLab in ${name} …`;
    const worked = await run(async () => {
      const { url } = await openApp(ts, name, "jupyter");
      if (!tab)
        return toast.fail(
          new Error("The browser blocked the new tab. Allow pop-ups for this site and try again."),
        );
      tab.opener = null;
      tab.location.replace(url);
    });
    if (!worked) tab?.close();
  };
  return (
    <Button look="primary" busy={busy} disabled={disabled} onClick={() => void open()}>
      {busy ? "Starting JupyterLab …" : "Open JupyterLab"} <OpenIcon />
    </Button>
  );
}

function StudioFacts({ studio }: { studio: Studio }) {
  const now = useNow();
  const machine = useMachines().data?.find((m) => m.name === studio.spec.machine);
  const up =
    studio.status.state === "running" && studio.status.started_at
      ? duration(now - studio.status.started_at)
      : "–";
  return (
    <Facts
      items={[
        ["Machine", studio.spec.machine],
        ["Price", machine ? `${credits(machine.price_uc_per_hour)} per hour` : "–"],
        ["Up for", up],
        [
          "Stops when idle",
          studio.spec.idle_timeout_s ? `after ${duration(studio.spec.idle_timeout_s)}` : "never",
        ],
        ["Owner", studio.owner],
        ["Created", stamp(studio.created_at)],
      ]}
    />
  );
}

function StudioTabs({ ts, studio }: { ts: string; studio: Studio }) {
  const base = `/api/v1/teamspaces/${ts}/studios/${studio.name}`;
  const running = studio.status.state === "running";
  const canWork = useCanWork();
  if (!canWork)
    return (
      <p className="quiet">Viewers see that a Studio is there, not what is in it. A member can work in it.</p>
    );
  const needsStart = (
    <p className="quiet">Start the Studio to use this. It keeps its files while it is stopped.</p>
  );
  return (
    <Tabs
      label={`Inside ${studio.name}`}
      tabs={[
        {
          id: "terminal",
          label: "Terminal",
          body: () =>
            running ? (
              <Suspense fallback={<Loading what="terminal" />}>
                <Terminal path={`${base}/terminal`} storageKey={`blixt-terminal-${studio.uid}`} />
              </Suspense>
            ) : (
              needsStart
            ),
        },
        {
          id: "command",
          label: "Run a command",
          body: () => (running ? <StudioCommand ts={ts} name={studio.name} /> : needsStart),
        },
      ]}
    />
  );
}

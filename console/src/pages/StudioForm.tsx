import { useState } from "react";
import { create } from "@/api/actions";
import { CheckField } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { IdleField } from "@/components/IdleField";
import { MachineField } from "@/components/MachineField";
import { NameField, nameTrouble } from "@/components/NameField";
import { suggestName } from "@/lib/names";

export function StudioForm({ ts, taken, onClose }: { ts: string; taken: string[]; onClose: () => void }) {
  const [name, setName] = useState(() => suggestName(taken));
  const [machine, setMachine] = useState("cpu-1");
  const [idle, setIdle] = useState(3600);
  const [start, setStart] = useState(true);
  return (
    <FormDialog
      title="New Studio"
      submit="Create Studio"
      done={`Created Studio ${name}.`}
      disabled={nameTrouble(name, taken) !== null}
      onClose={onClose}
      onSubmit={() =>
        create(ts, "studios", name, { machine, idle_timeout_s: idle, desired: start ? "running" : "stopped" })
      }
    >
      <NameField value={name} taken={taken} onChange={setName} />
      <MachineField value={machine} onChange={setMachine} />
      <IdleField value={idle} onChange={setIdle} />
      <CheckField label="Start it now" checked={start} onChange={(event) => setStart(event.target.checked)} />
    </FormDialog>
  );
}

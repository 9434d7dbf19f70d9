import { useState } from "react";
import { create } from "@/api/actions";
import { useList } from "@/api/queries";
import { SelectField, TextArea, TextField } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { MachineField } from "@/components/MachineField";
import { NameField, nameTrouble } from "@/components/NameField";
import { NumberField } from "@/components/NumberField";
import { SecretsField } from "@/components/SecretsField";
import { parseEnv } from "@/lib/env";
import { suggestName } from "@/lib/names";

interface Draft {
  name: string;
  command: string;
  machine: string;
  machines: number;
  processes: number;
  studio: string;
  experiment: string;
  model: string;
  restarts: number;
  env: string;
  secrets: string[];
}

export function JobForm({ ts, taken, onClose }: { ts: string; taken: string[]; onClose: () => void }) {
  const [draft, setDraft] = useState<Draft>(() => empty(taken));
  const change = (part: Partial<Draft>) => setDraft((old) => ({ ...old, ...part }));
  const studios = useList(ts, "studios").data?.items ?? [];
  const env = parseEnv(draft.env);
  const blocked = nameTrouble(draft.name, taken) !== null || !draft.command.trim() || env.problem !== null;
  return (
    <FormDialog
      title="New Job"
      submit="Run Job"
      wide
      done={`Created Job ${draft.name}.`}
      disabled={blocked}
      onClose={onClose}
      onSubmit={() => create(ts, "jobs", draft.name, toSpec(draft, env.env))}
    >
      <NameField value={draft.name} taken={taken} onChange={(name) => change({ name })} />
      <TextArea
        label="Command"
        className="mono"
        required
        value={draft.command}
        placeholder="python train.py --epochs 3"
        onChange={(e) => change({ command: e.target.value })}
      />
      <div className="columns">
        <MachineField value={draft.machine} onChange={(machine) => change({ machine })} />
        <SelectField
          label="Files from"
          value={draft.studio}
          hint="Starts from a copy of a Studio's files."
          onChange={(e) => change({ studio: e.target.value })}
        >
          <option value="">nothing</option>
          {studios.map((studio) => (
            <option key={studio.uid}>{studio.name}</option>
          ))}
        </SelectField>
      </div>
      <details className="more">
        <summary>More: machines, experiment, model, environment</summary>
        <div className="columns">
          <NumberField
            label="Machines"
            value={draft.machines}
            onChange={(machines) => change({ machines })}
          />
          <NumberField
            label="Processes per machine"
            value={draft.processes}
            onChange={(processes) => change({ processes })}
          />
          <NumberField
            label="Restarts after failure"
            min={0}
            value={draft.restarts}
            onChange={(restarts) => change({ restarts })}
          />
          <TextField
            label="Experiment"
            value={draft.experiment}
            hint="Empty: the job's name."
            onChange={(e) => change({ experiment: e.target.value })}
          />
          <TextField
            label="Model"
            value={draft.model}
            hint="Keeps $BLIXT_MODEL_OUT as a new version."
            onChange={(e) => change({ model: e.target.value })}
          />
        </div>
        <TextArea
          label="Environment"
          className="mono"
          value={draft.env}
          placeholder="KEY=value"
          problem={env.problem}
          onChange={(e) => change({ env: e.target.value })}
        />
        <SecretsField ts={ts} value={draft.secrets} onChange={(secrets) => change({ secrets })} />
      </details>
    </FormDialog>
  );
}

function empty(taken: string[]): Draft {
  const name = suggestName(taken);
  return {
    name,
    command: "",
    machine: "cpu-1",
    machines: 1,
    processes: 1,
    studio: "",
    experiment: "",
    model: "",
    restarts: 0,
    env: "",
    secrets: [],
  };
}

function toSpec(draft: Draft, env: Record<string, string>) {
  return {
    command: draft.command.trim(),
    machine: draft.machine,
    machines: draft.machines,
    processes: draft.processes,
    studio: draft.studio || null,
    experiment: draft.experiment || null,
    model: draft.model || null,
    max_restarts: draft.restarts,
    env,
    secrets: draft.secrets,
  };
}

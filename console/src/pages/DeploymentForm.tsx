import { useState } from "react";
import { useNavigate } from "react-router";
import { create } from "@/api/actions";
import { useList } from "@/api/queries";
import { CheckField, SelectField, TextArea } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { IdleField } from "@/components/IdleField";
import { MachineField } from "@/components/MachineField";
import { NameField, nameTrouble } from "@/components/NameField";
import { NumberField } from "@/components/NumberField";
import { SecretsField } from "@/components/SecretsField";
import { suggestName } from "@/lib/names";

interface DeploymentFormProps {
  ts: string;
  taken: string[];
  /** "name:version" when it is a model's page that asks. */
  model?: string;
  onClose: () => void;
}

export function DeploymentForm({ ts, taken, model: given, onClose }: DeploymentFormProps) {
  const models = useList(ts, "models").data?.items ?? [];
  const [name, setName] = useState(() => freeName(given?.split(":")[0], taken));
  const [model, setModel] = useState(given ?? "");
  const [command, setCommand] = useState("");
  const [machine, setMachine] = useState("cpu-1");
  const [least, setLeast] = useState(0);
  const [most, setMost] = useState(1);
  const [idle, setIdle] = useState(300);
  const [secrets, setSecrets] = useState<string[]>([]);
  const [open, setOpen] = useState(false);
  const navigate = useNavigate();
  const blocked = nameTrouble(name, taken) !== null || (!model && !command.trim());
  const submit = async () => {
    await create(ts, "deployments", name, {
      model: model || null,
      command: command.trim() || null,
      machine,
      min_replicas: least,
      max_replicas: Math.max(least, most, 1),
      idle_timeout_s: idle,
      secrets,
      public: open,
    });
    await navigate(`/t/${ts}/deployments/${name}`);
  };
  return (
    <FormDialog
      title="New Deployment"
      submit="Create Deployment"
      wide
      done={`Created Deployment ${name}.`}
      disabled={blocked}
      onClose={onClose}
      onSubmit={submit}
    >
      <NameField value={name} taken={taken} onChange={setName} />
      <div className="columns">
        <SelectField
          label="Model"
          value={model}
          hint="Served with an OpenAI-compatible API."
          onChange={(event) => setModel(event.target.value)}
        >
          <option value="">none</option>
          {given ? <option>{given}</option> : null}
          {models.map((m) => (
            <option key={m.uid}>{m.name}</option>
          ))}
        </SelectField>
        <MachineField value={machine} onChange={setMachine} />
      </div>
      <TextArea
        label={model ? "Command (leave empty for the model's own server)" : "Command"}
        className="mono"
        value={command}
        placeholder="python server.py --port $PORT"
        hint="It listens on 127.0.0.1 at the port in $PORT."
        onChange={(event) => setCommand(event.target.value)}
      />
      <div className="columns">
        <NumberField label="Least replicas" min={0} value={least} onChange={setLeast} />
        <NumberField label="Most replicas" min={1} value={most} onChange={setMost} />
        <IdleField label="Sleep when idle" never={false} value={idle} onChange={setIdle} />
      </div>
      <SecretsField ts={ts} value={secrets} onChange={setSecrets} />
      <CheckField
        label="Open to everyone"
        hint="Without it, a request needs a token of this teamspace."
        checked={open}
        onChange={(event) => setOpen(event.target.checked)}
      />
    </FormDialog>
  );
}

function freeName(wanted: string | undefined, taken: string[]): string {
  return wanted && !taken.includes(wanted) ? wanted : suggestName(taken);
}

import { useMachines } from "@/api/queries";
import { plural } from "@/lib/numbers";
import { credits } from "@/lib/money";
import { SelectField } from "./Field";

/** A choice of machine with its size and its price. */
export function MachineField({ value, onChange }: { value: string; onChange: (machine: string) => void }) {
  const machines = useMachines().data ?? [];
  const chosen = machines.find((machine) => machine.name === value);
  const unknown = machines.length > 0 && !chosen;
  return (
    <SelectField
      label="Machine"
      value={value}
      onChange={(event) => onChange(event.target.value)}
      hint={
        chosen
          ? `${plural(chosen.cpus, "core")}, ${chosen.memory_gb} GB${chosen.gpus ? `, ${plural(chosen.gpus, "GPU")}` : ""}; ${credits(chosen.price_uc_per_hour)} per hour while it runs`
          : undefined
      }
    >
      {unknown || !machines.length ? <option>{value}</option> : null}
      {machines.map((machine) => (
        <option key={machine.name}>{machine.name}</option>
      ))}
    </SelectField>
  );
}

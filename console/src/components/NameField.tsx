import { nameProblem } from "@/lib/names";
import { TextField } from "./Field";

interface NameFieldProps {
  value: string;
  taken: readonly string[];
  onChange: (name: string) => void;
}

export function NameField({ value, taken, onChange }: NameFieldProps) {
  return (
    <TextField
      label="Name"
      value={value}
      required
      problem={value ? nameTrouble(value, taken) : null}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

/** Why this name cannot be used here, or null. */
export function nameTrouble(name: string, taken: readonly string[]): string | null {
  return nameProblem(name) ?? (taken.includes(name) ? `There is already one named ${name}.` : null);
}

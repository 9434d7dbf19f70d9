import { duration } from "@/lib/time";
import { SelectField } from "./Field";

const CHOICES = [0, 60, 300, 900, 3600, 14_400];

interface IdleFieldProps {
  label?: string;
  value: number;
  /** Whether it may also stay up for ever. */
  never?: boolean;
  onChange: (seconds: number) => void;
}

/** After how long without use something goes to sleep. */
export function IdleField({ label = "Stop when idle", value, never = true, onChange }: IdleFieldProps) {
  const choices = [...new Set([...CHOICES, value])]
    .filter((seconds) => never || seconds > 0)
    .sort((a, b) => a - b);
  return (
    <SelectField
      label={label}
      value={value}
      hint="Saves credits when you forget it. Files stay."
      onChange={(event) => onChange(Number(event.target.value))}
    >
      {choices.map((seconds) => (
        <option key={seconds} value={seconds}>
          {seconds ? `after ${duration(seconds)}` : "never"}
        </option>
      ))}
    </SelectField>
  );
}

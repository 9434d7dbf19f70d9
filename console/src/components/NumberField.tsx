import { TextField } from "./Field";

interface NumberFieldProps {
  label: string;
  value: number;
  min?: number;
  max?: number;
  onChange: (value: number) => void;
}

/** A whole number that never leaves its range. */
export function NumberField({ label, value, min = 1, max = 1000, onChange }: NumberFieldProps) {
  const clamp = (wanted: number) => Math.min(max, Math.max(min, Math.floor(wanted) || min));
  return (
    <TextField
      label={label}
      type="number"
      min={min}
      max={max}
      value={value}
      onChange={(event) => onChange(clamp(event.target.valueAsNumber))}
    />
  );
}

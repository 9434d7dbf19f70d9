import { useList } from "@/api/queries";

interface SecretsFieldProps {
  ts: string;
  value: readonly string[];
  onChange: (names: string[]) => void;
}

/** Which Secrets the work gets in its environment. */
export function SecretsField({ ts, value, onChange }: SecretsFieldProps) {
  const secrets = useList(ts, "secrets").data?.items ?? [];
  if (!secrets.length) return null;
  const toggle = (name: string, on: boolean) =>
    onChange(on ? [...value, name] : value.filter((other) => other !== name));
  return (
    <fieldset className="choices">
      <legend>Secrets</legend>
      {secrets.map(({ uid, name }) => (
        <label className="check" key={uid}>
          <input
            type="checkbox"
            checked={value.includes(name)}
            onChange={(event) => toggle(name, event.target.checked)}
          />
          {name}
        </label>
      ))}
    </fieldset>
  );
}

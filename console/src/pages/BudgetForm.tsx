import { useState } from "react";
import { create } from "@/api/actions";
import { useMembers } from "@/api/queries";
import type { Budget, BudgetSpec } from "@/api/types";
import { EditDialog } from "@/components/EditDialog";
import { SelectField, TextField } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { MICRO, parseCredits } from "@/lib/money";

/** A new budget; its name follows from whom it binds. */
export function BudgetForm({ ts, taken, onClose }: { ts: string; taken: string[]; onClose: () => void }) {
  const [spec, setSpec] = useState<BudgetSpec>({
    limit_uc: 10 * MICRO,
    period: "month",
    applies_to: "teamspace",
  });
  const base = spec.applies_to.replace("user:", "user-");
  const name = taken.includes(base) ? `${base}-${spec.period}` : base;
  return (
    <FormDialog
      title="Set a budget"
      submit="Set budget"
      done="Budget set."
      onClose={onClose}
      onSubmit={() => create(ts, "budgets", name, spec)}
    >
      <BudgetFields ts={ts} spec={spec} change={(part) => setSpec((old) => ({ ...old, ...part }))} />
    </FormDialog>
  );
}

export function EditBudget({ ts, budget, onClose }: { ts: string; budget: Budget; onClose: () => void }) {
  return (
    <EditDialog ts={ts} plural="budgets" object={budget} onClose={onClose}>
      {(spec, change) => <BudgetFields ts={ts} spec={spec} change={change} />}
    </EditDialog>
  );
}

function BudgetFields({
  ts,
  spec,
  change,
}: {
  ts: string;
  spec: BudgetSpec;
  change: (part: Partial<BudgetSpec>) => void;
}) {
  const members = useMembers(ts).data?.items ?? [];
  const [text, setText] = useState(String(spec.limit_uc / MICRO));
  const amount = parseCredits(text);
  return (
    <>
      <TextField
        label="Limit in credits"
        inputMode="decimal"
        value={text}
        required
        problem={amount === null ? "Give an amount such as 25 or 12.50." : null}
        hint="What is running stops when it can no longer be paid."
        onChange={(event) => {
          setText(event.target.value);
          const read = parseCredits(event.target.value);
          if (read !== null) change({ limit_uc: read });
        }}
      />
      <SelectField
        label="Counts"
        value={spec.period}
        onChange={(event) => change({ period: event.target.value as BudgetSpec["period"] })}
      >
        <option value="month">each calendar month (UTC)</option>
        <option value="total">everything, for ever</option>
      </SelectField>
      <SelectField
        label="Binds"
        value={spec.applies_to}
        onChange={(event) => change({ applies_to: event.target.value })}
      >
        <option value="teamspace">the whole teamspace</option>
        {members.map((member) => (
          <option key={member.user} value={`user:${member.user}`}>
            what {member.user} starts
          </option>
        ))}
      </SelectField>
    </>
  );
}

import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { createUser, setRole } from "@/api/actions";
import { keys } from "@/api/keys";
import type { Role } from "@/api/types";
import { CheckField, SelectField, TextField } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { useToast } from "@/components/toast";
import { nameProblem } from "@/lib/names";
import { ShowToken } from "./ShowToken";

/** Adds somebody; for somebody new to this server it makes the user and shows the token, once. */
export function AddMember({ ts, onClose }: { ts: string; onClose: () => void }) {
  const [name, setName] = useState("");
  const [role, setChosen] = useState<Role>("member");
  const [isNew, setIsNew] = useState(true);
  const [token, setToken] = useState<string | null>(null);
  const client = useQueryClient();
  const toast = useToast();
  if (token) return <ShowToken title={`Token of ${name}`} token={token} who={name} onClose={onClose} />;
  const submit = async () => {
    if (!isNew) {
      await setRole(ts, name, role);
      await client.invalidateQueries({ queryKey: keys.members(ts) });
      return onClose();
    }
    const made = await createUser(name);
    // The user exists from here on, so the token is shown even if the role cannot be given.
    await setRole(ts, name, role).catch(toast.fail);
    await client.invalidateQueries({ queryKey: keys.members(ts) });
    setToken(made.token);
  };
  return (
    <FormDialog
      title="Add a member"
      submit="Add member"
      onClose={() => undefined}
      onCancel={onClose}
      onSubmit={submit}
      disabled={nameProblem(name) !== null}
    >
      <TextField
        label="Name"
        value={name}
        required
        problem={name ? nameProblem(name) : null}
        onChange={(event) => setName(event.target.value)}
      />
      <SelectField label="Role" value={role} onChange={(event) => setChosen(event.target.value as Role)}>
        <option value="owner">owner</option>
        <option value="member">member</option>
        <option value="viewer">viewer</option>
      </SelectField>
      <CheckField
        label="New to this server"
        hint="Makes the user and a token for them. Leave it off for somebody who has a token already."
        checked={isNew}
        onChange={(event) => setIsNew(event.target.checked)}
      />
    </FormDialog>
  );
}

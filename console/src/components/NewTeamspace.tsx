import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate } from "react-router";
import { createTeamspace } from "@/api/actions";
import { keys } from "@/api/keys";
import { nameProblem } from "@/lib/names";
import { TextField } from "./Field";
import { FormDialog } from "./FormDialog";

export function NewTeamspace({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const client = useQueryClient();
  const navigate = useNavigate();
  const submit = async () => {
    await createTeamspace(name);
    await client.invalidateQueries({ queryKey: keys.me });
    await navigate(`/t/${name}`);
  };
  return (
    <FormDialog
      title="New teamspace"
      submit="Create teamspace"
      onClose={onClose}
      onSubmit={submit}
      disabled={nameProblem(name) !== null}
    >
      <TextField
        label="Name"
        value={name}
        hint="A teamspace has its own members, files, secrets and budget."
        problem={name ? nameProblem(name) : null}
        onChange={(e) => setName(e.target.value)}
      />
    </FormDialog>
  );
}

import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { createToken, revokeToken } from "@/api/actions";
import { keys } from "@/api/keys";
import { useTokens } from "@/api/queries";
import type { Token } from "@/api/types";
import { Button } from "@/components/Button";
import { CheckField, SelectField, TextField } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { type Column, Table } from "@/components/Table";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { stamp } from "@/lib/time";
import { ShowToken } from "./ShowToken";

/** The tokens and sessions of whoever is signed in; those of running work end with it and are not shown. */
export function Tokens({ ts }: { ts: string }) {
  const tokens = useTokens();
  const [making, setMaking] = useState(false);
  const columns: Column<Token>[] = [
    {
      name: "Label",
      header: true,
      sort: (t) => t.label,
      cell: (t) => (t.label || t.kind) + (t.current ? " (this browser)" : ""),
    },
    { name: "Kind", wide: true, sort: (t) => t.kind, cell: (t) => t.kind },
    {
      name: "Reaches",
      cell: (t) => (t.teamspace ? `${t.teamspace}${t.role ? ` as ${t.role}` : ""}` : "all your teamspaces"),
    },
    {
      name: "Created",
      numeric: true,
      wide: true,
      sort: (t) => t.created_at,
      cell: (t) => stamp(t.created_at),
    },
    {
      name: "Expires",
      numeric: true,
      wide: true,
      sort: (t) => t.expires_at,
      cell: (t) => (t.expires_at ? stamp(t.expires_at) : "never"),
    },
    { name: "Actions", hideName: true, cell: (t) => <Revoke token={t} /> },
  ];
  return (
    <Section
      title="Your tokens"
      actions={
        <Button size="small" onClick={() => setMaking(true)}>
          New token
        </Button>
      }
    >
      <Problem error={tokens.error} />
      {tokens.data ? (
        <Table
          label="Your tokens"
          columns={columns}
          items={tokens.data.items.filter((t) => t.kind !== "workload")}
          rowKey={(t) => t.id}
        />
      ) : null}
      {making ? <NewToken ts={ts} onClose={() => setMaking(false)} /> : null}
    </Section>
  );
}

function NewToken({ ts, onClose }: { ts: string; onClose: () => void }) {
  const [label, setLabel] = useState("");
  const [days, setDays] = useState(90);
  const [onlyHere, setOnlyHere] = useState(true);
  const [token, setToken] = useState<string | null>(null);
  const client = useQueryClient();
  if (token)
    return <ShowToken title="New token" token={token} who="yourself or your program" onClose={onClose} />;
  const submit = async () => {
    const made = await createToken({
      label,
      ...(days ? { expires_s: days * 86_400 } : {}),
      ...(onlyHere ? { teamspace: ts } : {}),
    });
    await client.invalidateQueries({ queryKey: keys.tokens });
    setToken(made.token);
  };
  return (
    <FormDialog
      title="New token"
      submit="Create token"
      onClose={() => undefined}
      onCancel={onClose}
      onSubmit={submit}
    >
      <TextField
        label="Label"
        value={label}
        hint="So that you know later what it is for."
        onChange={(event) => setLabel(event.target.value)}
      />
      <SelectField label="Expires" value={days} onChange={(event) => setDays(Number(event.target.value))}>
        {[7, 30, 90, 365].map((count) => (
          <option key={count} value={count}>
            after {count} days
          </option>
        ))}
        <option value={0}>never</option>
      </SelectField>
      <CheckField
        label={`Only for ${ts}`}
        checked={onlyHere}
        onChange={(event) => setOnlyHere(event.target.checked)}
      />
    </FormDialog>
  );
}

function Revoke({ token }: { token: Token }) {
  const client = useQueryClient();
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const revoke = async () => {
    const body = (
      <p>Whatever uses it is refused from now on.{token.current ? " You will be signed out." : ""}</p>
    );
    if (!(await confirm({ title: `Revoke ${token.label || "this token"}?`, body, action: "Revoke token" })))
      return;
    void run(async () => {
      await revokeToken(token.id);
      await client.invalidateQueries({ queryKey: keys.tokens });
    }, "Token revoked.");
  };
  return (
    <Button
      look="quiet"
      size="small"
      busy={busy}
      aria-label={`Revoke ${token.label || token.kind}`}
      onClick={() => void revoke()}
    >
      Revoke
    </Button>
  );
}

import { useState } from "react";
import { putSecret, remove } from "@/api/actions";
import { useList } from "@/api/queries";
import type { Secret } from "@/api/types";
import { Button } from "@/components/Button";
import { Empty, Loading } from "@/components/Empty";
import { TextArea } from "@/components/Field";
import { FormDialog } from "@/components/FormDialog";
import { NameField } from "@/components/NameField";
import { Page } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { type Column, Table } from "@/components/Table";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { useCanWork } from "@/components/role";
import { useTs } from "@/lib/hooks";
import { nameProblem } from "@/lib/names";
import { stamp } from "@/lib/time";

export default function Secrets() {
  const ts = useTs();
  const list = useList(ts, "secrets");
  const [editing, setEditing] = useState<string | null>(null);
  const items = list.data?.items;
  return (
    <Page
      title="Secrets"
      lead="Values that reach your work as environment variables. They are encrypted, and no page or list ever shows them."
      actions={
        <Button look="primary" onClick={() => setEditing("")}>
          New Secret
        </Button>
      }
    >
      <Problem error={list.error} onRetry={() => void list.refetch()} />
      {list.isPending ? <Loading what="Secrets" /> : null}
      {items?.length === 0 ? (
        <Empty title="No Secret yet" command="blixt secret set hub-token">
          Keep keys and passwords here instead of in code. A Job names the Secrets it needs.
        </Empty>
      ) : null}
      {items?.length ? <SecretTable ts={ts} items={items} onReplace={setEditing} /> : null}
      {editing === null ? null : <SecretForm ts={ts} name={editing} onClose={() => setEditing(null)} />}
    </Page>
  );
}

interface SecretTableProps {
  ts: string;
  items: Secret[];
  onReplace: (name: string) => void;
}

function SecretTable({ ts, items, onReplace }: SecretTableProps) {
  const canWork = useCanWork();
  const columns: Column<Secret>[] = [
    { name: "Name", header: true, sort: (s) => s.name, cell: (s) => s.name },
    { name: "Owner", wide: true, sort: (s) => s.owner, cell: (s) => s.owner },
    {
      name: "Changed",
      numeric: true,
      wide: true,
      sort: (s) => s.updated_at,
      cell: (s) => stamp(s.updated_at),
    },
    ...(canWork
      ? [
          {
            name: "Actions",
            hideName: true,
            cell: (s: Secret) => <SecretActions ts={ts} name={s.name} onReplace={() => onReplace(s.name)} />,
          },
        ]
      : []),
  ];
  return (
    <Table
      label="Secrets"
      columns={columns}
      items={items}
      rowKey={(s) => s.uid}
      initial={{ column: "Name" }}
    />
  );
}

function SecretActions({ ts, name, onReplace }: { ts: string; name: string; onReplace: () => void }) {
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const erase = async () => {
    const body = <p>Work that names it can no longer start. There is no way back to its value.</p>;
    if (!(await confirm({ title: `Delete ${name}?`, body, action: "Delete Secret" }))) return;
    void run(() => remove(ts, "secrets", name), `Deleted ${name}.`);
  };
  return (
    <>
      <Button look="quiet" size="small" aria-label={`Replace the value of ${name}`} onClick={onReplace}>
        Replace the value
      </Button>
      <Button
        look="quiet"
        size="small"
        busy={busy}
        aria-label={`Delete ${name}`}
        onClick={() => void erase()}
      >
        Delete
      </Button>
    </>
  );
}

/** A new Secret, or (with a name) a new value for an old one. */
function SecretForm({ ts, name: given, onClose }: { ts: string; name: string; onClose: () => void }) {
  const [name, setName] = useState(given);
  const [value, setValue] = useState("");
  return (
    <FormDialog
      title={given ? `New value of ${given}` : "New Secret"}
      submit="Save Secret"
      done={`Saved ${name}.`}
      disabled={nameProblem(name) !== null || !value}
      onClose={onClose}
      onSubmit={() => putSecret(ts, name, value)}
    >
      {given ? null : <NameField value={name} taken={[]} onChange={setName} />}
      <TextArea
        label="Value"
        className="mono"
        value={value}
        required
        hint="Shown here only while you type it."
        onChange={(event) => setValue(event.target.value)}
      />
    </FormDialog>
  );
}

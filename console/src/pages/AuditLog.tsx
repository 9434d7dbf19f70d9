import { useAudit } from "@/api/queries";
import type { AuditEntry } from "@/api/types";
import { Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { type Column, Table } from "@/components/Table";
import { stamp } from "@/lib/time";

/** Who did what in this teamspace, newest first. */
export function AuditLog({ ts }: { ts: string }) {
  const audit = useAudit(ts);
  const columns: Column<AuditEntry>[] = [
    { name: "Time", header: true, cell: (e) => stamp(e.at) },
    { name: "Who", cell: (e) => e.actor },
    { name: "What", cell: (e) => `${e.action} ${e.kind} ${e.name}` },
    { name: "Outcome", wide: true, cell: (e) => e.outcome },
    { name: "Hash", wide: true, cell: (e) => <code title={e.hash}>{e.hash.slice(0, 10)}</code> },
  ];
  return (
    <Section title="Audit log">
      <p className="quiet">
        Each entry carries the hash of the one before it, so that a change to the past shows.
      </p>
      <Problem error={audit.error} />
      {audit.data ? (
        <Table label="Audit log" columns={columns} items={audit.data.items} rowKey={(e) => String(e.seq)} />
      ) : null}
    </Section>
  );
}

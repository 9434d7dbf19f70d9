import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { removeMember, setRole } from "@/api/actions";
import { keys } from "@/api/keys";
import { useMembers } from "@/api/queries";
import type { Member, Role, WhoAmI } from "@/api/types";
import { Button } from "@/components/Button";
import { Loading } from "@/components/Empty";
import { Page, Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { type Column, Table } from "@/components/Table";
import { useAction } from "@/components/action";
import { useConfirm } from "@/components/confirm";
import { useRole } from "@/components/role";
import { useTs } from "@/lib/hooks";
import { stamp } from "@/lib/time";
import { AddMember } from "./AddMember";
import { AuditLog } from "./AuditLog";
import { Tokens } from "./Tokens";

const ROLES: Record<Role, string> = {
  owner: "owner: everything, members and money too",
  member: "member: start, stop and change work",
  viewer: "viewer: look only",
};

export default function Members({ me }: { me: WhoAmI }) {
  const ts = useTs();
  const mine = useRole();
  const members = useMembers(ts);
  const [adding, setAdding] = useState(false);
  const items = members.data?.items;
  return (
    <Page
      title="Members"
      actions={
        mine === "owner" ? (
          <Button look="primary" onClick={() => setAdding(true)}>
            Add a member
          </Button>
        ) : null
      }
    >
      <Problem error={members.error} onRetry={() => void members.refetch()} />
      {members.isPending ? <Loading what="members" /> : null}
      {items ? <MemberTable ts={ts} items={items} me={me.user.name} canChange={mine === "owner"} /> : null}
      <Section title="Who may do what">
        <ul className="plain-list">
          {Object.values(ROLES).map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
      </Section>
      <Tokens ts={ts} />
      {mine === "owner" ? <AuditLog ts={ts} /> : null}
      {adding ? <AddMember ts={ts} onClose={() => setAdding(false)} /> : null}
    </Page>
  );
}

function MemberTable({
  ts,
  items,
  me,
  canChange,
}: {
  ts: string;
  items: Member[];
  me: string;
  canChange: boolean;
}) {
  const columns: Column<Member>[] = [
    {
      name: "Name",
      header: true,
      sort: (m) => m.user,
      cell: (m) => (m.user === me ? `${m.user} (you)` : m.user),
    },
    {
      name: "Role",
      sort: (m) => m.role,
      cell: (m) => (canChange ? <RoleChoice ts={ts} member={m} /> : m.role),
    },
    { name: "Since", numeric: true, wide: true, sort: (m) => m.created_at, cell: (m) => stamp(m.created_at) },
    ...(canChange
      ? [{ name: "Actions", hideName: true, cell: (m: Member) => <Remove ts={ts} member={m} /> }]
      : []),
  ];
  return <Table label="Members" columns={columns} items={items} rowKey={(m) => m.user} />;
}

function RoleChoice({ ts, member }: { ts: string; member: Member }) {
  const client = useQueryClient();
  const { run, busy } = useAction();
  const change = (role: Role) =>
    run(async () => {
      await setRole(ts, member.user, role);
      await client.invalidateQueries({ queryKey: keys.members(ts) });
    }, `${member.user} is now ${role}.`);
  return (
    <select
      aria-label={`Role of ${member.user}`}
      value={member.role}
      disabled={busy}
      onChange={(event) => void change(event.target.value as Role)}
    >
      {Object.keys(ROLES).map((role) => (
        <option key={role}>{role}</option>
      ))}
    </select>
  );
}

function Remove({ ts, member }: { ts: string; member: Member }) {
  const client = useQueryClient();
  const { run, busy } = useAction();
  const confirm = useConfirm();
  const remove = async () => {
    const body = (
      <p>They lose access to this teamspace at once. What they started goes on and stays on its bill.</p>
    );
    if (!(await confirm({ title: `Remove ${member.user}?`, body, action: "Remove member" }))) return;
    void run(async () => {
      await removeMember(ts, member.user);
      await client.invalidateQueries({ queryKey: keys.members(ts) });
    }, `Removed ${member.user}.`);
  };
  return (
    <Button
      look="quiet"
      size="small"
      busy={busy}
      aria-label={`Remove ${member.user}`}
      onClick={() => void remove()}
    >
      Remove
    </Button>
  );
}

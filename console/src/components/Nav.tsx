import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { NavLink, useNavigate } from "react-router";
import { signOut } from "@/api/actions";
import { useList } from "@/api/queries";
import { keys } from "@/api/keys";
import type { WhoAmI } from "@/api/types";
import { type Theme, setTheme, useTheme } from "@/lib/theme";
import { Button } from "./Button";
import { NewTeamspace } from "./NewTeamspace";
import { useAction } from "./action";
import {
  BillingIcon,
  DeploymentIcon,
  ExperimentIcon,
  HomeIcon,
  JobIcon,
  Mark,
  MembersIcon,
  ModelIcon,
  SecretIcon,
  StudioIcon,
} from "./icons";

/** Where to go, in which teamspace, as whom, and in which light. */
export function Nav({ me, ts }: { me: WhoAmI; ts: string }) {
  const base = `/t/${ts}`;
  const studios = useList(ts, "studios").data?.items.filter((s) => s.status.state === "running").length;
  const jobs = useList(ts, "jobs").data?.items.filter((j) => j.status.state === "running").length;
  const ready = useList(ts, "deployments").data?.items.filter((d) => d.status.state === "ready").length;
  return (
    <>
      <div className="brand">
        <Mark />
        <span>blixt</span>
      </div>
      <TeamspaceSwitcher me={me} ts={ts} />
      <nav aria-label="Main">
        <ul>
          <Item to={base} end icon={<HomeIcon />} label="Home" />
          <Item to={`${base}/studios`} icon={<StudioIcon />} label="Studios" count={studios} />
          <Item to={`${base}/jobs`} icon={<JobIcon />} label="Jobs" count={jobs} />
          <Item to={`${base}/experiments`} icon={<ExperimentIcon />} label="Experiments" />
          <Item to={`${base}/models`} icon={<ModelIcon />} label="Models" />
          <Item to={`${base}/deployments`} icon={<DeploymentIcon />} label="Deployments" count={ready} />
          <Item to={`${base}/secrets`} icon={<SecretIcon />} label="Secrets" />
          <Item to={`${base}/billing`} icon={<BillingIcon />} label="Billing" />
          <Item to={`${base}/members`} icon={<MembersIcon />} label="Members" />
        </ul>
      </nav>
      <Foot me={me} />
    </>
  );
}

function Item(props: { to: string; end?: boolean; icon: ReactNode; label: string; count?: number }) {
  return (
    <li>
      <NavLink to={props.to} end={props.end ?? false}>
        {props.icon}
        {props.label}
        {props.count ? (
          <span className="nav-count">
            {props.count}
            <span className="sr-only"> running</span>
          </span>
        ) : null}
      </NavLink>
    </li>
  );
}

const NEW = "+new";

function TeamspaceSwitcher({ me, ts }: { me: WhoAmI; ts: string }) {
  const navigate = useNavigate();
  const [adding, setAdding] = useState(false);
  return (
    <div className="switcher">
      <label htmlFor="teamspace">Teamspace</label>
      <select
        id="teamspace"
        value={ts}
        onChange={(e) => (e.target.value === NEW ? setAdding(true) : navigate(`/t/${e.target.value}`))}
      >
        {me.teamspaces.map((teamspace) => (
          <option key={teamspace.name}>{teamspace.name}</option>
        ))}
        <option value={NEW}>New teamspace …</option>
      </select>
      {adding ? <NewTeamspace onClose={() => setAdding(false)} /> : null}
    </div>
  );
}

function Foot({ me }: { me: WhoAmI }) {
  const theme = useTheme();
  const client = useQueryClient();
  const { run, busy } = useAction();
  const leave = () =>
    run(async () => {
      await signOut();
      client.removeQueries({ queryKey: ["ts"] });
      client.setQueryData(keys.me, null);
    });
  return (
    <footer className="side-foot">
      <label className="inline-select">
        Theme
        <select value={theme} onChange={(e) => setTheme(e.target.value as Theme)}>
          <option value="system">System</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </label>
      <p className="who">
        <span>
          Signed in as <b>{me.user.name}</b>
        </span>
        <Button look="quiet" size="small" busy={busy} onClick={() => void leave()}>
          Sign out
        </Button>
      </p>
      <p className="version">
        blixt {me.server.version} · <a href="/licenses.txt">licences</a>
      </p>
    </footer>
  );
}

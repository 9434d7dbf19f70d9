import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { applyChange, pluralOf } from "./changes";
import { type ConnectionState, follow } from "./events";
import { keys } from "./keys";
import type { AnyObject, Change, Listing } from "./types";

/** Keeps every listing of a teamspace up to date from the change stream; says whether the stream stands. */
export function useWatch(ts: string): ConnectionState {
  const client = useQueryClient();
  const [state, setState] = useState<ConnectionState>("connecting");
  useEffect(() => {
    let since: number | null = null;
    return follow({
      url: () =>
        `/api/v1/watch?teamspace=${encodeURIComponent(ts)}${since === null ? "" : `&since=${since}`}`,
      onState: (next) => {
        setState(next);
        // Between a listing's fetch and the stream's opening something may have happened; ask once more.
        if (next === "open") void client.invalidateQueries({ queryKey: ["ts", ts] });
      },
      onError: (error) => {
        // The server's change log may no longer reach back to where we were: begin at its end.
        const lost = since !== null && error.status >= 400 && error.status !== 401 && error.status !== 403;
        if (lost) since = null;
        return lost;
      },
      onEvent: (event) => {
        if (event.event !== "change") return;
        const change = JSON.parse(event.data) as Change;
        since = change.seq;
        apply(client, ts, change);
      },
    });
  }, [client, ts]);
  return state;
}

function apply(client: QueryClient, ts: string, change: Change): void {
  const plural = pluralOf(change.object.kind);
  if (!plural) return;
  const list = keys.list(ts, plural);
  client.setQueryData<Listing<AnyObject>>(list, (old) => old && applyChange(old, change));
  // A fetch under way may have read the state before this change; it must not have the last word.
  if (client.isFetching({ queryKey: list })) void client.invalidateQueries({ queryKey: list });
  if (plural === "experiments")
    void client.invalidateQueries({ queryKey: keys.runs(ts, change.object.name) });
  if (plural === "models") void client.invalidateQueries({ queryKey: keys.versions(ts, change.object.name) });
  if (plural === "jobs" || plural === "studios" || plural === "deployments" || plural === "budgets") {
    void client.invalidateQueries({ queryKey: keys.bill(ts) });
  }
}

import { useQuery } from "@tanstack/react-query";
import { ApiError, get, path } from "./http";
import { keys } from "./keys";
import type {
  AuditEntry,
  Bill,
  Kinds,
  LedgerEntry,
  Listing,
  Machine,
  Member,
  ModelVersion,
  Plural,
} from "./types";
import type { Run, Series, Token, WhoAmI } from "./types";

/** How often what has no event stream is asked for again, while the page is in front. */
const LIVE_MS = 2_500;
const BILL_MS = 5_000;

/** Who is signed in. Not asked while a sign-in is under way: an answer from before it would have the last word. */
export function useMe(enabled: boolean) {
  return useQuery<WhoAmI | null>({
    queryKey: keys.me,
    queryFn: () => get<WhoAmI>("/whoami"),
    enabled,
    retry: false,
    staleTime: 60_000,
  });
}

/** Every object of a kind; the watch keeps it up to date. */
export function useList<P extends Plural>(ts: string, plural: P) {
  return useQuery({
    queryKey: keys.list(ts, plural),
    queryFn: () => get<Listing<Kinds[P]>>(path(ts, plural)),
    staleTime: Infinity,
  });
}

/** One object out of its kind's listing, so that there is one copy of the truth. */
export function useObject<P extends Plural>(ts: string, plural: P, name: string) {
  const list = useList(ts, plural);
  const object = list.data?.items.find((item) => item.name === name) as Kinds[P] | undefined;
  const missing = list.data && !object;
  const noun = plural.slice(0, -1);
  const error = missing
    ? new ApiError(
        404,
        "not_found",
        `There is no ${noun} named ${name} here.`,
        `It may have been deleted; see the list of ${plural}.`,
      )
    : list.error;
  return { object, error, isPending: list.isPending };
}

export function useMachines() {
  return useQuery({
    queryKey: keys.machines,
    queryFn: () => get<Listing<Machine>>("/machines"),
    staleTime: 30_000,
    select: (data) => data.items,
  });
}

export function useBill(ts: string) {
  return useQuery({
    queryKey: keys.bill(ts),
    queryFn: () => get<Bill>(path(ts, "bill")),
    refetchInterval: BILL_MS,
  });
}

export function useLedger(ts: string) {
  return useQuery({
    queryKey: keys.ledger(ts),
    queryFn: () => get<Listing<LedgerEntry>>(`${path(ts, "ledger")}?limit=100`),
    refetchInterval: BILL_MS * 2,
  });
}

export function useMembers(ts: string) {
  return useQuery({ queryKey: keys.members(ts), queryFn: () => get<Listing<Member>>(path(ts, "members")) });
}

export function useTokens() {
  return useQuery({ queryKey: keys.tokens, queryFn: () => get<Listing<Token>>("/tokens") });
}

export function useAudit(ts: string) {
  return useQuery({
    queryKey: keys.audit(ts),
    queryFn: () => get<Listing<AuditEntry>>(`${path(ts, "audit")}?limit=50`),
  });
}

/** Runs of an experiment. The watch tells of new ones; the values of live ones have no event stream and are asked for again. */
export function useRuns(ts: string, experiment: string | null | undefined) {
  return useQuery({
    queryKey: keys.runs(ts, experiment ?? ""),
    queryFn: () => get<Listing<Run>>(path(ts, "experiments", experiment!, "runs")),
    enabled: Boolean(experiment),
    retry: false,
    refetchInterval: (query) =>
      query.state.data?.items.some((run) => run.state === "running") ? LIVE_MS : false,
    select: (data) => data.items,
  });
}

export function seriesQuery(ts: string, experiment: string, run: string, live: boolean) {
  return {
    queryKey: keys.series(ts, experiment, run),
    queryFn: () =>
      get<Series>(`${path(ts, "experiments", experiment, "runs", run, "metrics")}?max_points=2000`),
    refetchInterval: live ? LIVE_MS : false,
    retry: false,
  } as const;
}

export function useVersions(ts: string, model: string) {
  return useQuery({
    queryKey: keys.versions(ts, model),
    queryFn: () => get<Listing<ModelVersion>>(path(ts, "models", model, "versions")),
    select: (data) => [...data.items].sort((a, b) => b.version - a.version),
  });
}

import type { Plural } from "./types";

/** The names under which answers are kept; a prefix invalidates everything below it. */
export const keys = {
  me: ["me"] as const,
  machines: ["machines"] as const,
  list: (ts: string, plural: Plural) => ["ts", ts, plural] as const,
  bill: (ts: string) => ["ts", ts, "bill"] as const,
  ledger: (ts: string) => ["ts", ts, "ledger"] as const,
  members: (ts: string) => ["ts", ts, "members"] as const,
  audit: (ts: string) => ["ts", ts, "audit"] as const,
  tokens: ["tokens"] as const,
  runs: (ts: string, experiment: string) => ["ts", ts, "runs", experiment] as const,
  series: (ts: string, experiment: string, run: string) => ["ts", ts, "series", experiment, run] as const,
  versions: (ts: string, model: string) => ["ts", ts, "versions", model] as const,
};

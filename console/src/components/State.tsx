const TONES: Record<string, string> = {
  running: "live",
  ready: "live",
  succeeded: "good",
  pending: "wait",
  starting: "wait",
  stopping: "wait",
  uploading: "wait",
  degraded: "warn",
  failed: "bad",
  stopped: "off",
  sleeping: "off",
};

/** A state as a word with a mark whose shape, not only colour, tells its tone. */
export function State({ state, deleting = false }: { state: string | undefined; deleting?: boolean }) {
  const shown = deleting ? "deleting" : (state ?? "pending");
  return <span className={`state state-${deleting ? "wait" : (TONES[shown] ?? "off")}`}>{shown}</span>;
}

/** States in which nothing more happens by itself. */
export const isFinal = (state: string | undefined) =>
  state === "succeeded" || state === "failed" || state === "stopped";

import { command } from "@/api/actions";
import type { Studio } from "@/api/types";
import { Button } from "@/components/Button";
import { useAction } from "@/components/action";
import { useCanWork } from "@/components/role";

/** Starts or stops a Studio, whichever makes sense now. */
export function StudioSwitch({
  ts,
  studio,
  size = "normal",
}: {
  ts: string;
  studio: Studio;
  size?: "small" | "normal";
}) {
  const { run, busy } = useAction();
  const canWork = useCanWork();
  const verb = studio.spec.desired === "running" && studio.status.state !== "failed" ? "stop" : "start";
  const title = verb === "stop" ? "Stop" : "Start";
  if (!canWork) return null;
  return (
    <Button
      size={size}
      busy={busy}
      disabled={studio.deleting || studio.status.state === "stopping"}
      aria-label={`${title} ${studio.name}`}
      onClick={() => void run(() => command(ts, "studios", studio.name, verb))}
    >
      {title}
    </Button>
  );
}

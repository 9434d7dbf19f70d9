import { ApiError } from "@/api/http";
import { Button } from "./Button";
import { WarnIcon } from "./icons";

/** What went wrong, in the server's sentence, and what to do about it. */
export function Problem({
  error,
  onRetry,
  retry = "Try again",
}: {
  error: unknown;
  onRetry?: () => void;
  retry?: string;
}) {
  if (!error) return null;
  const hint = error instanceof ApiError ? error.hint : null;
  return (
    <div className="problem" role="alert">
      <WarnIcon />
      <div>
        <p>{error instanceof Error ? error.message : String(error)}</p>
        {hint ? <p className="problem-hint">{hint}</p> : null}
        {onRetry ? (
          <Button size="small" onClick={onRetry}>
            {retry}
          </Button>
        ) : null}
      </div>
    </div>
  );
}

/** The special case of 409: somebody else changed the object while this form was open. */
export function Conflict({ what, onReload }: { what: string; onReload: () => void }) {
  return (
    <div className="problem problem-conflict" role="alert">
      <WarnIcon />
      <div>
        <p>Someone else changed {what} since you opened this form. Nothing of yours was saved.</p>
        <Button size="small" onClick={onReload}>
          Reload their version
        </Button>
      </div>
    </div>
  );
}

export const isConflict = (error: unknown) => error instanceof ApiError && error.status === 409;

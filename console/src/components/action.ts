import { useCallback, useState } from "react";
import { useToast } from "./toast";

/**
 * A button's work: runs it once at a time and tells of failure (and, if given, success) in a toast.
 * `problem` holds the last failure for forms that show it in place; pass `quiet` to leave the toast out.
 */
export function useAction(options: { quiet?: boolean } = {}) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const toast = useToast();
  const quiet = options.quiet ?? false;
  const run = useCallback(
    async (work: () => Promise<unknown>, done?: string): Promise<boolean> => {
      setBusy(true);
      setProblem(null);
      try {
        await work();
        if (done) toast.say(done);
        return true;
      } catch (error) {
        setProblem(error);
        if (!quiet) toast.fail(error);
        return false;
      } finally {
        setBusy(false);
      }
    },
    [toast, quiet],
  );
  return { run, busy, problem };
}

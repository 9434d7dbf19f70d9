import { type FormEvent, type ReactNode } from "react";
import { Button } from "./Button";
import { Dialog } from "./Dialog";
import { Problem } from "./Problem";
import { useAction } from "./action";

interface FormDialogProps {
  title: string;
  submit: string;
  wide?: boolean;
  onClose: () => void;
  /** What Cancel does, when that is not what success does. */
  onCancel?: () => void;
  /** Does the work; the dialog closes when it succeeds and shows the sentence when it fails. */
  onSubmit: () => Promise<unknown>;
  /** Said when it has worked. */
  done?: string;
  disabled?: boolean;
  children: ReactNode;
  /** Draws a failure in its own way; null means the usual way. */
  onProblem?: (error: unknown) => ReactNode;
}

export function FormDialog(props: FormDialogProps) {
  const { run, busy, problem } = useAction({ quiet: true });
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (!busy && (await run(props.onSubmit, props.done))) props.onClose();
  };
  const cancel = props.onCancel ?? props.onClose;
  return (
    <Dialog title={props.title} wide={props.wide ?? false} onClose={cancel}>
      <form onSubmit={(event) => void submit(event)}>
        <div className="dialog-body form">
          {props.children}
          {problem ? (props.onProblem?.(problem) ?? <Problem error={problem} />) : null}
        </div>
        <footer className="dialog-foot">
          <Button onClick={cancel}>Cancel</Button>
          <Button type="submit" look="primary" busy={busy} disabled={props.disabled ?? false}>
            {props.submit}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

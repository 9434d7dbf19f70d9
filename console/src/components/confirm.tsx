import { type ReactNode, createContext, useCallback, useContext, useState } from "react";
import { Button } from "./Button";
import { Dialog } from "./Dialog";

export interface Question {
  title: string;
  body: ReactNode;
  /** The verb on the button: "Delete studio", never "OK". */
  action: string;
}

const Context = createContext<(question: Question) => Promise<boolean>>(() => Promise.resolve(false));

/** Asks before something that cannot be undone: `if (await confirm({...}))`. */
export const useConfirm = () => useContext(Context);

export function ConfirmProvider({ children }: { children: ReactNode }) {
  const [open, setOpen] = useState<{ question: Question; answer: (yes: boolean) => void } | null>(null);
  const ask = useCallback(
    (question: Question) => new Promise<boolean>((answer) => setOpen({ question, answer })),
    [],
  );
  const close = (yes: boolean) => {
    open?.answer(yes);
    setOpen(null);
  };
  return (
    <Context value={ask}>
      {children}
      {open ? (
        <Dialog title={open.question.title} onClose={() => close(false)}>
          <div className="dialog-body">{open.question.body}</div>
          <footer className="dialog-foot">
            <Button onClick={() => close(false)}>Keep it</Button>
            <Button look="danger" onClick={() => close(true)}>
              {open.question.action}
            </Button>
          </footer>
        </Dialog>
      ) : null}
    </Context>
  );
}

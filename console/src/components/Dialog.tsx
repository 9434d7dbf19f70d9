import { type ReactNode, useEffect, useId, useRef } from "react";
import { Button } from "./Button";
import { CloseIcon } from "./icons";

interface DialogProps {
  title: string;
  onClose: () => void;
  wide?: boolean;
  children: ReactNode;
}

/** A modal dialog on the browser's own <dialog>: it holds the focus, Escape closes it, the focus returns. */
export function Dialog({ title, onClose, wide = false, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    if (element && !element.open) {
      element.showModal();
      // The browser would focus the close button; people want the first field, or the harmless answer.
      element
        .querySelector<HTMLElement>(".dialog-body :is(input, select, textarea), .dialog-foot button")
        ?.focus();
    }
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      className={`dialog ${wide ? "dialog-wide" : ""}`}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header className="dialog-head">
        <h2 id={id}>{title}</h2>
        <Button look="quiet" size="small" aria-label="Close" onClick={onClose}>
          <CloseIcon />
        </Button>
      </header>
      {children}
    </dialog>
  );
}

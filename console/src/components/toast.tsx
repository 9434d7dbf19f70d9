import { type ReactNode, createContext, useCallback, useContext, useRef, useState } from "react";
import { ApiError } from "@/api/http";
import { Button } from "./Button";
import { CloseIcon } from "./icons";

interface Toast {
  id: number;
  tone: "good" | "bad";
  text: string;
  hint?: string | null;
}

interface Toaster {
  say: (text: string) => void;
  fail: (error: unknown) => void;
}

const Context = createContext<Toaster>({ say: () => undefined, fail: () => undefined });

/** Short messages in the corner, read aloud politely. */
export const useToast = () => useContext(Context);

const SHOWN_MS = 6_000;

export function ToastProvider({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<Toast[]>([]);
  const next = useRef(1);
  const drop = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const add = useCallback(
    (toast: Omit<Toast, "id">) => {
      const id = next.current++;
      setToasts((all) => [...all.slice(-3), { ...toast, id }]);
      // What went wrong stays until it is read; what went well may leave by itself.
      if (toast.tone === "good") setTimeout(() => drop(id), SHOWN_MS);
    },
    [drop],
  );
  const say = useCallback((text: string) => add({ tone: "good", text }), [add]);
  const fail = useCallback(
    (error: unknown) => {
      if (error instanceof ApiError && error.status === 401) return;
      const hint = error instanceof ApiError ? error.hint : null;
      add({ tone: "bad", text: error instanceof Error ? error.message : String(error), hint });
    },
    [add],
  );
  return (
    <Context value={{ say, fail }}>
      {children}
      <div className="toasts" role="status" aria-live="polite" aria-label="Messages">
        {toasts.map((toast) => (
          <div key={toast.id} className={`toast toast-${toast.tone}`}>
            <p>
              {toast.text}
              {toast.hint ? <span className="toast-hint">{toast.hint}</span> : null}
            </p>
            <Button look="quiet" size="small" aria-label="Dismiss message" onClick={() => drop(toast.id)}>
              <CloseIcon />
            </Button>
          </div>
        ))}
      </div>
    </Context>
  );
}

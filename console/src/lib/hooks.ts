import { useEffect, useState, useSyncExternalStore } from "react";
import { useParams } from "react-router";

/** The teamspace of the current address. */
export function useTs(): string {
  const { ts } = useParams();
  if (!ts) throw new Error("This part of the console lives under /t/{teamspace}.");
  return ts;
}

let now = Date.now() / 1000;
let timer: ReturnType<typeof setInterval> | null = null;
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = Date.now() / 1000;
    listeners.forEach((tell) => tell());
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size || timer === null) return;
    clearInterval(timer);
    timer = null;
  };
}

/** Unix seconds, renewed once a second by one timer for the whole page. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => now);
}

/** A value that waits until it has not changed for a while. */
export function useSettled<T>(value: T, delayMs: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const wait = setTimeout(() => setSettled(value), delayMs);
    return () => clearTimeout(wait);
  }, [value, delayMs]);
  return settled;
}

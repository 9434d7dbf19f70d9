import { EventParser, type ServerEvent } from "@/lib/sse";
import { ApiError, stream } from "./http";

export type ConnectionState = "connecting" | "open" | "waiting" | "closed";

export interface EventsOptions {
  /** The address for each try, so that a reconnect can carry on where it stopped. */
  url: () => string;
  /** Returns true when that was the last event and the stream is done. */
  onEvent: (event: ServerEvent) => boolean | void;
  onState?: (state: ConnectionState) => void;
  /** Told of every refusal; returns true to try again even where the server's no would be final. */
  onError?: (error: ApiError) => boolean | void;
}

/**
 * Follows server-sent events until closed: reconnects with back-off, and rests while the page is hidden so that
 * many open tabs do not use up the browser's few connections to one server. Returns the function that closes it.
 */
export function follow(options: EventsOptions): () => void {
  const closing = new AbortController();
  void run(options, closing.signal);
  return () => closing.abort();
}

async function run(options: EventsOptions, signal: AbortSignal): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) break;
    options.onState?.("connecting");
    try {
      const done = await once(options, signal, () => (failures = 0));
      if (done) break;
    } catch (error) {
      if (signal.aborted) break;
      const known = error instanceof ApiError ? error : null;
      const again = known ? options.onError?.(known) === true : true;
      if (!again && isFinal(known!.status)) break;
    }
    failures += 1;
    options.onState?.("waiting");
    await pause(Math.min(15_000, 250 * 2 ** failures), signal);
  }
  if (!signal.aborted) options.onState?.("closed");
}

/** Refusals that will be the same next time. */
function isFinal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 429;
}

/** One connection; true when the stream said that it is done. */
async function once(options: EventsOptions, signal: AbortSignal, opened: () => void): Promise<boolean> {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  const hidden = () => document.hidden && stop();
  signal.addEventListener("abort", stop);
  document.addEventListener("visibilitychange", hidden);
  try {
    const reader = await stream(options.url(), {
      headers: { accept: "text/event-stream" },
      signal: attempt.signal,
    });
    options.onState?.("open");
    opened();
    const parser = new EventParser();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        if (options.onEvent(event) === true) return (stop(), true);
      }
    }
  } catch (error) {
    if (attempt.signal.aborted && !signal.aborted) return false;
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    document.removeEventListener("visibilitychange", hidden);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

function visible(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const check = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", check);
      resolve();
    };
    document.addEventListener("visibilitychange", check);
    signal.addEventListener("abort", check, { once: true });
  });
}

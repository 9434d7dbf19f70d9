import { useEffect, useRef, useState } from "react";
import { follow } from "@/api/events";
import type { ApiError } from "@/api/http";
import { LogBuffer } from "@/lib/logbuffer";

export interface LogStream {
  buffer: LogBuffer;
  /** Grows with every change of the buffer. */
  version: number;
  /** Set when the log is complete. */
  ended: boolean;
  error: ApiError | null;
}

/** Follows a log from its beginning; after a lost connection it goes on where it was. */
export function useLogStream(address: string): LogStream {
  const buffer = useRef(new LogBuffer());
  const [version, setVersion] = useState(0);
  const [ended, setEnded] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    let since = "0";
    let frame = 0;
    const show = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setVersion(buffer.current.version);
      });
    };
    buffer.current.clear();
    setEnded(false);
    setError(null);
    show();
    const close = follow({
      url: () => `${address}${address.includes("?") ? "&" : "?"}follow=1&since=${since}`,
      onState: (state) => state === "open" && setError(null),
      onError: (problem) => setError(problem),
      onEvent: (event) => {
        if (event.event === "end") {
          setEnded(true);
          return true;
        }
        if (event.event !== "log") return false;
        // An event's id is where the log goes on after it.
        since = event.id;
        buffer.current.append((JSON.parse(event.data) as { text: string }).text);
        show();
        return false;
      },
    });
    return () => {
      close();
      cancelAnimationFrame(frame);
    };
  }, [address]);
  return { buffer: buffer.current, version, ended, error };
}

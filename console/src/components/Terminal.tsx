import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Xterm } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef, useState } from "react";
import { colour } from "@/lib/colour";
import { useDark } from "@/lib/theme";
import { type LinkState, TerminalLink } from "./terminal-link";

interface TerminalProps {
  /** The path of the WebSocket. */
  path: string;
  /** Names the shell session of this browser tab. */
  storageKey: string;
}

/** A real terminal in the page. F6 leaves it, since Tab belongs to the shell. */
export default function Terminal({ path, storageKey }: TerminalProps) {
  const frame = useRef<HTMLDivElement>(null);
  const after = useRef<HTMLButtonElement>(null);
  const screen = useRef<Xterm | null>(null);
  const [state, setState] = useState<LinkState>({ kind: "connecting" });
  const [session, setSession] = useState(() => sessionOf(storageKey));
  const dark = useDark();

  useEffect(() => {
    const element = frame.current!;
    const xterm = new Xterm({
      fontFamily: getComputedStyle(element).getPropertyValue("--mono"),
      fontSize: 13,
      scrollback: 10_000,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      theme: colours(element),
    });
    const fit = new FitAddon();
    xterm.loadAddon(fit);
    xterm.open(element);
    fit.fit();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const link = new TerminalLink(`${scheme}//${location.host}${path}`, session, {
      size: () => [xterm.cols, xterm.rows],
      onBytes: (bytes) => xterm.write(bytes),
      onState: (next) => {
        // The server replays the last screenful to whoever connects.
        if (next.kind === "open") xterm.reset();
        setState(next);
      },
    });
    xterm.onData((data) => link.send(data));
    xterm.onBinary((data) => link.send(data));
    xterm.onResize(({ cols, rows }) => link.resize(cols, rows));
    xterm.attachCustomKeyEventHandler((event) => {
      if (event.key !== "F6") return true;
      after.current?.focus();
      return false;
    });
    const observer = new ResizeObserver(() => fit.fit());
    observer.observe(element);
    screen.current = xterm;
    xterm.focus();
    return () => {
      observer.disconnect();
      link.close();
      xterm.dispose();
    };
  }, [path, session]);

  useEffect(() => {
    if (screen.current && frame.current) screen.current.options.theme = colours(frame.current);
  }, [dark]);

  const restart = () => {
    sessionStorage.removeItem(storageKey);
    setSession(sessionOf(storageKey));
  };
  return (
    <div className="term">
      <div className="term-frame" ref={frame} />
      <div className="term-foot">
        <p role="status">{describe(state)}</p>
        <span className="quiet">
          <kbd>F6</kbd> leaves the terminal
        </span>
        <button ref={after} type="button" className="button button-plain button-small" onClick={restart}>
          New shell
        </button>
      </div>
    </div>
  );
}

function describe(state: LinkState): string {
  if (state.kind === "open") return "Connected";
  if (state.kind === "connecting") return "Connecting …";
  if (state.kind === "waiting") {
    if (state.failures < 3) return "Connection lost; trying again …";
    return "No connection. The Studio may have stopped, or your role may not allow a shell. Trying again …";
  }
  if (state.kind === "taken") return "This shell is now shown in another tab.";
  return state.code ? `The shell ended with exit code ${state.code}.` : "The shell ended.";
}

function sessionOf(key: string): string {
  const known = sessionStorage.getItem(key);
  if (known) return known;
  const made = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) =>
    b.toString(16).padStart(2, "0"),
  ).join("");
  sessionStorage.setItem(key, made);
  return made;
}

function colours(element: HTMLElement) {
  const read = (name: string) => colour(element, name);
  return {
    background: read("--term-bg"),
    foreground: read("--term-text"),
    cursor: read("--bolt"),
    cursorAccent: read("--term-bg"),
    selectionBackground: read("--term-selection"),
  };
}

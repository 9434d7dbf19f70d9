import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { plain } from "@/lib/ansi";
import { useSettled } from "@/lib/hooks";
import { plural } from "@/lib/numbers";
import { Button } from "./Button";
import { LogBlock } from "./LogBlock";
import { Problem } from "./Problem";
import { DownIcon, UpIcon } from "./icons";
import { useLogStream } from "./log-stream";

interface LogViewProps {
  /** The API's log address, without follow and since. */
  address: string;
  /** What the downloaded file is called. */
  fileName: string;
  /** More controls, such as a choice of rank. */
  children?: ReactNode;
}

/** A live log: follows its end until you scroll up, finds text, wraps lines, downloads. */
export function LogView({ address, fileName, children }: LogViewProps) {
  const { buffer, version, ended, error } = useLogStream(address);
  const [wrap, setWrap] = useState(true);
  const [follow, setFollow] = useState(true);
  const search = useSearch(() => buffer.lines(), version, buffer.droppedCount);
  const body = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (follow && body.current) body.current.scrollTop = body.current.scrollHeight;
  }, [version, follow, wrap]);

  useEffect(() => {
    if (search.line === null) return;
    setFollow(false);
    body.current?.querySelector(`[data-line="${search.line}"]`)?.scrollIntoView({ block: "center" });
  }, [search.line]);

  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = body.current!;
    setFollow(scrollHeight - scrollTop - clientHeight < 24);
  };

  return (
    <div className="log">
      <div className="toolbar">
        <SearchBox search={search} />
        {children}
        <label className="check">
          <input type="checkbox" checked={follow} onChange={(e) => setFollow(e.target.checked)} /> Follow
        </label>
        <label className="check">
          <input type="checkbox" checked={wrap} onChange={(e) => setWrap(e.target.checked)} /> Wrap
        </label>
        <Button
          size="small"
          className="toolbar-end"
          disabled={!buffer.lineCount}
          onClick={() => download(buffer.lines(), fileName)}
        >
          Download
        </Button>
      </div>
      <Problem error={error} />
      <div
        ref={body}
        className={`log-body ${wrap ? "log-wrap" : ""}`}
        role="log"
        aria-label="Log"
        aria-live={follow ? "polite" : "off"}
        tabIndex={0}
        onScroll={onScroll}
      >
        {buffer.droppedCount ? (
          <p className="log-note">{plural(buffer.droppedCount, "earlier line")} not kept in this page.</p>
        ) : null}
        {buffer.blocks.map((block) => (
          <LogBlock
            key={block.first}
            block={block}
            version={block.version}
            query={search.query}
            current={search.line}
          />
        ))}
        {buffer.lineCount ? null : (
          <p className="log-note">{ended ? "It wrote nothing." : "Waiting for the first line …"}</p>
        )}
      </div>
      <p className="log-foot" aria-live="polite">
        {plural(buffer.lineCount, "line")}
        {ended ? " · complete" : " · live"}
      </p>
    </div>
  );
}

function useSearch(lines: () => string[], version: number, firstLine: number) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(-1);
  const query = useSettled(text.toLowerCase(), 150);
  const hits = useMemo(() => {
    if (!query) return [];
    return lines().flatMap((line, i) => (plain(line).toLowerCase().includes(query) ? [i + firstLine] : []));
    // The version stands for the lines.
  }, [query, version]);
  useEffect(() => setAt(-1), [query]);
  const go = (step: number) =>
    hits.length && setAt((old) => (old + step + hits.length + (old < 0 && step < 0 ? 1 : 0)) % hits.length);
  return { text, setText, query, hits, at, go, line: at < 0 ? null : (hits[at] ?? null) };
}

function SearchBox({ search }: { search: ReturnType<typeof useSearch> }) {
  const { text, hits, at } = search;
  const found = text ? (hits.length ? `${at < 0 ? "" : `${at + 1} of `}${hits.length}` : "none") : "";
  return (
    <div className="log-search" role="search">
      <input
        type="search"
        aria-label="Find in log"
        placeholder="Find in log"
        value={text}
        onChange={(e) => search.setText(e.target.value)}
        onKeyDown={(e) => e.key === "Enter" && search.go(e.shiftKey ? -1 : 1)}
      />
      <span className="log-found" role="status">
        {found}
      </span>
      <Button
        look="quiet"
        size="small"
        aria-label="Previous match"
        disabled={!hits.length}
        onClick={() => search.go(-1)}
      >
        <UpIcon />
      </Button>
      <Button
        look="quiet"
        size="small"
        aria-label="Next match"
        disabled={!hits.length}
        onClick={() => search.go(1)}
      >
        <DownIcon />
      </Button>
    </div>
  );
}

function download(lines: string[], fileName: string): void {
  const url = URL.createObjectURL(new Blob([`${lines.map(plain).join("\n")}\n`], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = fileName;
  link.click();
  URL.revokeObjectURL(url);
}

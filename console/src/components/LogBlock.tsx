import { type ReactNode, memo } from "react";
import { plain, spans } from "@/lib/ansi";
import type { Block } from "@/lib/logbuffer";

interface LogBlockProps {
  block: Block;
  /** The block's version when it was last drawn; a block that has not grown is not drawn again. */
  version: number;
  query: string;
  current: number | null;
}

/** Two hundred lines; the browser skips those out of sight (content-visibility). */
export const LogBlock = memo(
  function LogBlock({ block, query, current }: LogBlockProps) {
    return (
      <div className="log-block">
        {block.lines.map((line, i) => {
          const number = block.first + i;
          return (
            <div
              key={number}
              data-line={number}
              className={number === current ? "log-line log-current" : "log-line"}
            >
              {query ? highlight(line, query) : colour(line)}
            </div>
          );
        })}
      </div>
    );
  },
  (a, b) =>
    a.block === b.block &&
    a.version === b.version &&
    a.query === b.query &&
    (a.current === b.current || !(holds(a.block, a.current) || holds(b.block, b.current))),
);

function holds(block: Block, line: number | null): boolean {
  return line !== null && line >= block.first && line < block.first + block.lines.length;
}

function colour(line: string): ReactNode {
  const parts = spans(line);
  if (parts.length === 0) return "\u200b";
  if (parts.length === 1 && !parts[0]!.look) return parts[0]!.text;
  return parts.map((part, i) => (
    <span key={i} className={part.look}>
      {part.text}
    </span>
  ));
}

/** A line that matches loses its colours to the highlight. */
function highlight(line: string, query: string): ReactNode {
  const text = plain(line);
  const lower = text.toLowerCase();
  const parts: ReactNode[] = [];
  let from = 0;
  for (let at = lower.indexOf(query); at >= 0; at = lower.indexOf(query, from)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + query.length)}</mark>);
    from = at + query.length;
  }
  return parts.length ? [...parts, text.slice(from)] : colour(line);
}

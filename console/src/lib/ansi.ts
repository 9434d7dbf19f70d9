/** A piece of a log line with one look. */
export interface Span {
  text: string;
  look: string;
}

const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const ESCAPE = /\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]|\x1b[=>]/g;

/** Splits a line into spans by its colour codes; every other escape sequence is dropped. */
export function spans(line: string): Span[] {
  if (!line.includes("\x1b")) return line ? [{ text: line, look: "" }] : [];
  const result: Span[] = [];
  let look = "";
  let from = 0;
  for (const match of line.matchAll(ESCAPE)) {
    if (match.index > from) result.push({ text: line.slice(from, match.index), look });
    from = match.index + match[0].length;
    if (match[2] === "m") look = nextLook(look, match[1] ?? "");
  }
  if (from < line.length) result.push({ text: line.slice(from), look });
  return result;
}

/** The line as plain text, for search and download. */
export function plain(line: string): string {
  return line.includes("\x1b") ? line.replace(ESCAPE, "") : line;
}

function nextLook(current: string, codes: string): string {
  const look = new Set(current.split(" ").filter(Boolean));
  const clearColour = () => look.forEach((name) => name.startsWith("fg-") && look.delete(name));
  const list = (codes || "0").split(";").map(Number);
  for (let i = 0; i < list.length; i += 1) {
    const code = list[i]!;
    if (code === 0) look.clear();
    else if (code === 1) look.add("bold");
    else if (code === 2) look.add("dim");
    else if (code === 22) (look.delete("bold"), look.delete("dim"));
    else if (code === 38 || code === 48) i += list[i + 1] === 5 ? 2 : 4;
    else if (code === 39) clearColour();
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
      clearColour();
      look.add(`fg-${COLOURS[code % 10]}`);
    }
  }
  return [...look].join(" ");
}

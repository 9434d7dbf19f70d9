import { describe, expect, it } from "vitest";
import { plain, spans } from "./ansi";
import { BLOCK_LINES, LogBuffer } from "./logbuffer";

function filled(...pieces: string[]): LogBuffer {
  const buffer = new LogBuffer();
  pieces.forEach((piece) => buffer.append(piece));
  return buffer;
}

describe("LogBuffer", () => {
  it("joins lines that arrive in pieces", () =>
    expect(filled("he", "llo\nwor", "ld\n").lines()).toEqual(["hello", "world"]));

  it("shows a line that has not ended yet, once", () =>
    expect(filled("a\nb", "c").lines()).toEqual(["a", "bc"]));

  it("lets a progress bar rewrite its line", () => {
    expect(filled("10%\r", "20%\r", "done\nnext\n").lines()).toEqual(["done", "next"]);
  });

  it("reads Windows line ends as line ends", () => expect(filled("a\r\nb\r\n").lines()).toEqual(["a", "b"]));

  it("keeps empty lines", () => expect(filled("a\n\nb\n").lines()).toEqual(["a", "", "b"]));

  it("drops the oldest block beyond its limit and counts what it dropped", () => {
    const buffer = new LogBuffer(2 * BLOCK_LINES);
    for (let i = 0; i < 5 * BLOCK_LINES; i += 1) buffer.append(`${i}\n`);
    expect(buffer.droppedCount).toBe(3 * BLOCK_LINES);
    expect(buffer.lines()[0]).toBe(String(3 * BLOCK_LINES));
    expect(buffer.lineCount).toBe(5 * BLOCK_LINES);
  });

  it("changes only the block that grew", () => {
    const buffer = filled("x\n".repeat(BLOCK_LINES + 1));
    const before = buffer.blocks.map((b) => b.version);
    buffer.append("more\n");
    expect(buffer.blocks[0]!.version).toBe(before[0]);
    expect(buffer.blocks[1]!.version).toBeGreaterThan(before[1]!);
  });

  it("cuts a line without end so that memory stays bounded", () => {
    expect(filled("x".repeat(70_000), "y").lines().length).toBe(2);
  });

  it("starts over when cleared", () => {
    const buffer = filled("old\n");
    buffer.clear();
    buffer.append("new\n");
    expect(buffer.lines()).toEqual(["new"]);
  });
});

describe("ansi", () => {
  it("gives plain lines one span", () => expect(spans("hi")).toEqual([{ text: "hi", look: "" }]));

  it("reads colours, bold and reset", () => {
    expect(spans("\x1b[1;31mbad\x1b[0m ok")).toEqual([
      { text: "bad", look: "bold fg-red" },
      { text: " ok", look: "" },
    ]);
  });

  it("skips 256-colour codes without taking their numbers for colours", () => {
    expect(spans("\x1b[38;5;31mx")).toEqual([{ text: "x", look: "" }]);
  });

  it("drops cursor movements and titles", () => expect(plain("\x1b[2K\x1b]0;title\x07text")).toBe("text"));
});

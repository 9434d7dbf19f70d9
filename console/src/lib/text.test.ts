import { describe, expect, it } from "vitest";
import { commandLine, parseEnv } from "./env";
import { nameProblem, suggestName } from "./names";
import { sortBy } from "./sort";
import { EventParser } from "./sse";

describe("EventParser", () => {
  it("joins an event that arrives in pieces", () => {
    const parser = new EventParser();
    expect(parser.push("id: 7\nevent: log\nda")).toEqual([]);
    expect(parser.push('ta: {"a":1}\n\n')).toEqual([{ id: "7", event: "log", data: '{"a":1}' }]);
  });

  it("joins several data lines and ignores comments", () => {
    expect(new EventParser().push(": hello\ndata: a\ndata: b\n\n")).toEqual([
      { id: "", event: "message", data: "a\nb" },
    ]);
  });

  it("accepts CRLF even when it is split between pieces", () => {
    const parser = new EventParser();
    expect([...parser.push("data: x\r\n\r"), ...parser.push("\n")]).toEqual([
      { id: "", event: "message", data: "x" },
    ]);
  });

  it("sends nothing for an event without data", () =>
    expect(new EventParser().push("event: ping\n\n")).toEqual([]));
});

describe("names", () => {
  it.each(["a", "my-job-2", "0x"])("allows %s", (name) => expect(nameProblem(name)).toBeNull());

  it.each(["", "-a", "a-", "A", "a_b", "x".repeat(64)])("explains what is wrong with %j", (name) => {
    expect(nameProblem(name)).toMatch(/\.$/);
  });

  it("suggests a name that is free", () => {
    const first = suggestName([], () => 0);
    expect(suggestName([first], () => 0)).toBe(`${first}-2`);
  });
});

describe("sortBy", () => {
  const items = [{ v: 2 }, { v: undefined }, { v: 10 }, { v: Number.NaN }, { v: 1 }];

  it("puts missing values last in both directions", () => {
    expect(sortBy(items, (i) => i.v).map((i) => i.v)).toEqual([1, 2, 10, undefined, Number.NaN]);
    expect(
      sortBy(items, (i) => i.v, true)
        .map((i) => i.v)
        .slice(0, 3),
    ).toEqual([10, 2, 1]);
  });

  it("sorts numbered names as a person would", () => {
    expect(sortBy(["run-10", "run-2"], (n) => n)).toEqual(["run-2", "run-10"]);
  });
});

describe("environment and commands", () => {
  it("reads KEY=value lines, with = in values", () => {
    expect(parseEnv("A=1\n# note\n\nB=x=y")).toEqual({ env: { A: "1", B: "x=y" }, problem: null });
  });

  it("names the line it cannot read", () => expect(parseEnv("A=1\nnonsense").problem).toContain("Line 2"));

  it("quotes only the words that need it", () => {
    expect(commandLine(["python", "-c", "print('hi')"])).toBe(`python -c 'print('\\''hi'\\'')'`);
  });
});

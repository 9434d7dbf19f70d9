import { describe, expect, it } from "vitest";
import { costOf, creditNumber, credits, parseCredits } from "./money";
import { bytes, metric, plural, toNumber } from "./numbers";
import { ago, duration, stamp } from "./time";

describe("money", () => {
  it.each([
    [0, "0.0000 cr"],
    [1_234_500, "1.2345 cr"],
    [1_204_000_000, "1,204.0000 cr"],
    [-500_000, "−0.5000 cr"],
    [-1, "0.0000 cr"],
  ])("shows %d micro-credits as %s", (uc, text) => expect(credits(uc)).toBe(text));

  it("shows a dash for what is not known", () => expect(credits(null)).toBe("–"));

  it("groups thousands with the decimals asked for", () =>
    expect(creditNumber(1_234_567_890_000, 2)).toBe("1,234,567.89"));

  it.each([
    ["12.5", 12_500_000],
    ["1,200", 1_200_000_000],
    [" 3 cr ", 3_000_000],
    ["0.000001", 1],
  ])("reads %s", (text, uc) => expect(parseCredits(text)).toBe(uc));

  it.each(["", "-3", "five", "1.2.3", "0.0000001"])("refuses %j", (text) =>
    expect(parseCredits(text)).toBeNull(),
  );

  it("prices an open segment by the second", () => expect(costOf(3_600_000, 90)).toBe(90_000));

  it("never charges for negative time", () => expect(costOf(3_600_000, -5)).toBe(0));
});

describe("time", () => {
  it.each([
    [0, "0 s"],
    [59.9, "59 s"],
    [60, "1 min"],
    [200, "3 min 20 s"],
    [7500, "2 h 5 min"],
    [360_000, "4 d 4 h"],
    [-3, "0 s"],
  ])("shows %d seconds as %s", (seconds, text) => expect(duration(seconds)).toBe(text));

  it("has no duration for what has not started", () => expect(duration(null)).toBe("–"));

  it.each([
    [3, "just now"],
    [30, "30 s ago"],
    [3600, "1 h ago"],
    [200_000, "2 d ago"],
  ])("says %d seconds as %s", (back, text) => expect(ago(1_000_000 - back, 1_000_000)).toBe(text));

  it("stamps a time so that it sorts", () =>
    expect(stamp(1_700_000_000)).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/));
});

describe("numbers", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1_400, "1.4 kB"],
    [25_000_000, "25 MB"],
  ])("shows %d bytes as %s", (count, text) => expect(bytes(count)).toBe(text));

  it.each([
    [2.71828, "2.718"],
    [0.0003, "0.0003"],
    [0.00000012, "1.20e-7"],
    [51_300, "51.3k"],
    [0, "0"],
    [100, "100"],
    [Number.NaN, "nan"],
    [-Infinity, "-inf"],
  ])("shows the metric %d as %s", (value, text) => expect(metric(value)).toBe(text));

  it("reads numbers that JSON cannot hold", () => {
    expect(toNumber("inf")).toBe(Infinity);
    expect(toNumber("nan")).toBeNaN();
    expect(toNumber(2)).toBe(2);
  });

  it("counts in words", () => expect([plural(1, "run"), plural(0, "run")]).toEqual(["1 run", "0 runs"]));
});

import { describe, expect, it } from "vitest";
import { downsample, elapsed, smooth, toCurve } from "./curve";

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

describe("smooth", () => {
  it("leaves the curve alone at weight 0", () => expect(smooth([3, 1, 2], 0)).toEqual([3, 1, 2]));

  it("keeps a constant constant from the first point on", () => {
    for (const value of smooth([5, 5, 5, 5], 0.9)) expect(value).toBeCloseTo(5);
  });

  it("keeps gaps and does not let them disturb the average", () => {
    const [first, gap, last] = smooth([4, null, 4], 0.5);
    expect(gap).toBeNull();
    expect([first, last]).toEqual([4, 4]);
  });
});

describe("downsample", () => {
  it("keeps a short curve as it is", () => {
    const curve = { x: [1, 2], y: [3, 4] };
    expect(downsample(curve, 100)).toBe(curve);
  });

  it("keeps both ends, the order and a single spike", () => {
    const y: number[] = range(10_000).map(() => 0);
    y[4321] = 99;
    const small = downsample({ x: range(10_000), y }, 200);
    expect(small.x.length).toBeLessThanOrEqual(200);
    expect(small.x[0]).toBe(0);
    expect(small.x.at(-1)).toBe(9_999);
    expect([...small.x].sort((a, b) => a - b)).toEqual(small.x);
    expect(small.y[small.x.indexOf(4321)]).toBe(99);
  });

  it("survives a curve that is nothing but gaps", () => {
    const small = downsample({ x: range(1000), y: range(1000).map(() => null) }, 50);
    expect(small.y.every((v) => v === null)).toBe(true);
  });
});

describe("toCurve", () => {
  it("turns values without a place on the axis into gaps", () => {
    expect(toCurve([0, 1, 2], [1, Number.NaN, Infinity], false).y).toEqual([1, null, null]);
    expect(toCurve([0, 1, 2], [1, 0, -1], true).y).toEqual([1, null, null]);
  });

  it("counts elapsed time from the first point", () => expect(elapsed([100, 105])).toEqual([0, 5]));
});

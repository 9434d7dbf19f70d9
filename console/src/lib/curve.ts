/** One metric of one run: x ascending, y may hold gaps (null) where the value was not finite. */
export interface Curve {
  x: number[];
  y: (number | null)[];
}

/**
 * Exponential moving average with bias correction, weight in [0, 1): 0 leaves the curve as it is.
 * Gaps stay gaps and do not disturb the average.
 */
export function smooth(y: (number | null)[], weight: number): (number | null)[] {
  if (weight <= 0) return y;
  let average = 0;
  let seen = 0;
  return y.map((value) => {
    if (value === null) return null;
    average = average * weight + value * (1 - weight);
    seen += 1;
    return average / (1 - weight ** seen);
  });
}

/**
 * At most about `limit` points that keep the shape: each bucket gives its lowest and highest point,
 * so a spike survives. First and last points always stay.
 */
export function downsample(curve: Curve, limit: number): Curve {
  const count = curve.x.length;
  if (count <= limit || limit < 4) return curve;
  const inner = count - 2;
  const buckets = Math.max(1, Math.floor((limit - 2) / 2));
  const keep: number[] = [0];
  for (let b = 0; b < buckets; b += 1) {
    const from = 1 + Math.floor((b * inner) / buckets);
    const to = 1 + Math.floor(((b + 1) * inner) / buckets);
    keep.push(...extremes(curve.y, from, to));
  }
  keep.push(count - 1);
  return { x: keep.map((i) => curve.x[i]!), y: keep.map((i) => curve.y[i] ?? null) };
}

function extremes(y: (number | null)[], from: number, to: number): number[] {
  let low = from;
  let high = from;
  for (let i = from; i < to; i += 1) {
    const value = y[i];
    if (value == null) continue;
    if (y[low] == null || value < y[low]!) low = i;
    if (y[high] == null || value > y[high]!) high = i;
  }
  if (low === high) return [low];
  return low < high ? [low, high] : [high, low];
}

/** Makes a curve from the API's arrays; values that no axis can hold become gaps. */
export function toCurve(x: number[], values: number[], logScale: boolean): Curve {
  return { x, y: values.map((v) => (Number.isFinite(v) && (!logScale || v > 0) ? v : null)) };
}

/** Seconds since the first time, for an x axis that compares runs started on different days. */
export function elapsed(times: number[], start?: number): number[] {
  const zero = start ?? times[0] ?? 0;
  return times.map((t) => t - zero);
}

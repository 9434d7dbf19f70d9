/** "1.4 MB": decimal units, as file sizes are shown everywhere else. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** A metric's value with four significant digits and no noise: 2.718, 0.0003, 1.2e-7, 51.3k. */
export function metric(value: number | string | null | undefined): string {
  if (value == null) return "–";
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(2);
  if (size >= 1e6) return `${trim((value / 1e6).toPrecision(4))}M`;
  if (size >= 1e4) return `${trim((value / 1e3).toPrecision(4))}k`;
  return trim(value.toPrecision(4));
}

function trim(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** NaN and infinities travel as strings; a chart wants numbers. */
export function toNumber(value: number | string): number {
  if (typeof value === "number") return value;
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return Number.NaN;
}

/** "1 replica", "3 replicas". */
export function plural(count: number, noun: string, many = `${noun}s`): string {
  return `${count.toLocaleString("en-US")} ${count === 1 ? noun : many}`;
}

/** Money travels as integer micro-credits; people read credits. */
export const MICRO = 1_000_000;

/** "1.2345 cr": four decimals, because a minute of a small machine costs less than a hundredth. */
export function credits(uc: number | null | undefined): string {
  return uc == null ? "–" : `${creditNumber(uc)} cr`;
}

/** The number alone, grouped by thousands: "1,204.0000". */
export function creditNumber(uc: number, decimals = 4): string {
  const text = (Math.abs(uc) / MICRO).toFixed(decimals);
  const [whole = "0", part] = text.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const negative = uc < 0 && Number(text) !== 0;
  return `${negative ? "−" : ""}${grouped}${part ? `.${part}` : ""}`;
}

/** Reads what a person typed ("12.5", "1,200", "3 cr") as micro-credits; null when it is no amount. */
export function parseCredits(text: string): number | null {
  const clean = text
    .trim()
    .replace(/\s*cr$/i, "")
    .replace(/,/g, "");
  if (!/^\d+(\.\d{1,6})?$/.test(clean)) return null;
  return Math.round(Number(clean) * MICRO);
}

/** What a segment that has been open for `seconds` has cost at an hourly price. */
export function costOf(pricePerHourUc: number, seconds: number): number {
  return Math.round((pricePerHourUc * Math.max(0, seconds)) / 3600);
}

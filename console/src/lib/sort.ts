/** What a column can be sorted by. */
export type SortKey = string | number | null | undefined;

/** Sorts a copy: numbers by size, text by the alphabet, and what is missing always last. */
export function sortBy<T>(items: readonly T[], key: (item: T) => SortKey, descending = false): T[] {
  const sign = descending ? -1 : 1;
  return [...items].sort((a, b) => compare(key(a), key(b), sign));
}

function compare(a: SortKey, b: SortKey, sign: number): number {
  const missingA = a == null || Number.isNaN(a);
  const missingB = b == null || Number.isNaN(b);
  if (missingA || missingB) return Number(missingA) - Number(missingB);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

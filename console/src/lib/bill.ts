import type { Bill, BillLine } from "@/api/types";
import { costOf } from "./money";

export interface LiveBill {
  lines: BillLine[];
  /** What everything that is open costs per hour now. */
  rateUc: number;
  totalUc: number;
  remainingUc: number | null;
}

/** A bill carried forward: open lines have run on for `seconds` since the server counted them. */
export function carryForward(bill: Bill, prices: ReadonlyMap<string, number>, seconds: number): LiveBill {
  let rateUc = 0;
  let addedUc = 0;
  const lines = bill.lines.map((line) => {
    if (!line.open) return line;
    const price = prices.get(line.machine) ?? 0;
    const extra = costOf(price, seconds);
    rateUc += price;
    addedUc += extra;
    return { ...line, seconds: line.seconds + Math.max(0, seconds), amount_uc: line.amount_uc + extra };
  });
  // What is left already counts the holds, and those cover the time that is running now.
  return { lines, rateUc, totalUc: bill.total_uc + addedUc, remainingUc: bill.remaining_uc };
}

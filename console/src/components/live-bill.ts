import { useMemo } from "react";
import { useBill, useMachines } from "@/api/queries";
import { type LiveBill, carryForward } from "@/lib/bill";
import { useNow } from "@/lib/hooks";

/** The teamspace's bill, ticking between the server's answers; undefined until the first one. */
export function useLiveBill(ts: string): {
  bill: LiveBill | undefined;
  prices: ReadonlyMap<string, number>;
  error: Error | null;
} {
  const { data, dataUpdatedAt, error } = useBill(ts);
  const machines = useMachines().data;
  const now = useNow();
  const prices = useMemo(() => new Map(machines?.map((m) => [m.name, m.price_uc_per_hour])), [machines]);
  const bill = data && carryForward(data, prices, now - dataUpdatedAt / 1000);
  return { bill, prices, error };
}

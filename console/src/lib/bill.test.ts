import { expect, it } from "vitest";
import type { Bill, BillLine } from "@/api/types";
import { carryForward } from "./bill";

const line = (open: boolean): BillLine => ({
  kind: "job",
  name: "j",
  uid: "u",
  machine: "cpu-1",
  seconds: 60,
  amount_uc: 1_000,
  open,
});
const bill = (open: boolean): Bill => ({
  lines: [line(open)],
  total_uc: 1_000,
  budget_uc: 50_000,
  remaining_uc: 49_000,
});
const prices = new Map([["cpu-1", 36_000]]);

it("runs open lines on at the machine's price", () => {
  const live = carryForward(bill(true), prices, 10);
  expect(live).toMatchObject({ rateUc: 36_000, totalUc: 1_100, remainingUc: 49_000 });
  expect(live.lines[0]).toMatchObject({ seconds: 70, amount_uc: 1_100 });
});

it("leaves closed lines as the ledger has them", () => {
  expect(carryForward(bill(false), prices, 10)).toMatchObject({
    rateUc: 0,
    totalUc: 1_000,
    remainingUc: 49_000,
  });
});

it("keeps an unlimited budget unlimited", () => {
  expect(
    carryForward({ ...bill(true), budget_uc: null, remaining_uc: null }, prices, 10).remainingUc,
  ).toBeNull();
});

import { Link } from "react-router";
import { creditNumber } from "@/lib/money";
import { useLiveBill } from "./live-bill";

/** What runs and what it costs, always in sight; leads to the bill. */
export function Meter({ ts }: { ts: string }) {
  const { bill } = useLiveBill(ts);
  if (!bill) return <p className="meter" />;
  const open = bill.lines.filter((line) => line.open).length;
  const low = bill.remainingUc !== null && bill.remainingUc < bill.rateUc;
  return (
    <Link className={`meter ${open ? "meter-live" : ""} ${low ? "meter-low" : ""}`} to={`/t/${ts}/billing`}>
      <span>
        <b>{open}</b> running
      </span>
      <span>
        <b>{creditNumber(bill.rateUc)}</b> cr/h
      </span>
      <span className="meter-wide">
        <b>{creditNumber(bill.totalUc)}</b> cr spent
      </span>
      {bill.remainingUc === null ? null : (
        <span>
          <b>{creditNumber(bill.remainingUc, 2)}</b> cr left
        </span>
      )}
    </Link>
  );
}

import { type ReactNode, useState } from "react";
import { type SortKey, sortBy } from "@/lib/sort";
import { DownIcon, UpIcon } from "./icons";

export interface Column<T> {
  name: string;
  cell: (item: T) => ReactNode;
  /** Makes the column sortable. */
  sort?: (item: T) => SortKey;
  numeric?: boolean;
  /** Left out on narrow screens. */
  wide?: boolean;
  /** The column that names the row. */
  header?: boolean;
  /** A column of buttons, whose name only screen readers need. */
  hideName?: boolean;
}

interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  items: readonly T[];
  rowKey: (item: T) => string;
  initial?: { column: string; descending?: boolean };
  foot?: ReactNode;
}

/** A real table: sortable by its headings, scrolling sideways inside its own frame. */
export function Table<T>({ label, columns, items, rowKey, initial, foot }: TableProps<T>) {
  const [order, setOrder] = useState(initial ?? null);
  const sorter = columns.find((column) => column.name === order?.column)?.sort;
  const sorted = sorter ? sortBy(items, sorter, order?.descending) : items;
  return (
    <div className="table-frame" role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {columns.map((column) => (
              <Heading key={column.name} column={column} order={order} onSort={setOrder} />
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((item) => (
            <tr key={rowKey(item)}>
              {columns.map((column) => (
                <Cell key={column.name} column={column} item={item} />
              ))}
            </tr>
          ))}
        </tbody>
        {foot ? <tfoot>{foot}</tfoot> : null}
      </table>
    </div>
  );
}

type Order = { column: string; descending?: boolean };

function classes<T>(column: Column<T>): string {
  return `${column.numeric ? "numeric" : ""} ${column.wide ? "wide" : ""} ${column.hideName ? "actions" : ""}`.trim();
}

function Heading<T>(props: { column: Column<T>; order: Order | null; onSort: (order: Order) => void }) {
  const { column, order } = props;
  const active = order?.column === column.name;
  const sorted = active ? (order.descending ? "descending" : "ascending") : undefined;
  if (!column.sort) {
    return (
      <th scope="col" className={classes(column)}>
        {column.hideName ? <span className="sr-only">{column.name}</span> : column.name}
      </th>
    );
  }
  return (
    <th scope="col" className={classes(column)} aria-sort={sorted}>
      <button
        type="button"
        className="sort"
        onClick={() =>
          props.onSort({ column: column.name, descending: active ? !order.descending : column.numeric })
        }
      >
        {column.name}
        {active ? order.descending ? <DownIcon /> : <UpIcon /> : null}
      </button>
    </th>
  );
}

function Cell<T>({ column, item }: { column: Column<T>; item: T }) {
  return column.header ? (
    <th scope="row" className={classes(column)}>
      {column.cell(item)}
    </th>
  ) : (
    <td className={classes(column)}>{column.cell(item)}</td>
  );
}

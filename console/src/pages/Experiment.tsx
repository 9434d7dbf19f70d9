import { useMemo, useState } from "react";
import { Link, useParams } from "react-router";
import { useObject, useRuns } from "@/api/queries";
import type { Run } from "@/api/types";
import { Curves, PALETTE } from "@/components/Curves";
import { Loading } from "@/components/Empty";
import { Page, Section } from "@/components/Page";
import { Problem } from "@/components/Problem";
import { State } from "@/components/State";
import { type Column, Table } from "@/components/Table";
import { useTs } from "@/lib/hooks";
import { metric, plural, toNumber } from "@/lib/numbers";
import { stamp } from "@/lib/time";

/** How many runs are drawn before anybody chooses. */
const FIRST_SHOWN = 5;

export default function ExperimentPage() {
  const ts = useTs();
  const { name = "" } = useParams();
  const { object, error } = useObject(ts, "experiments", name);
  const runs = useRuns(ts, name);
  const [chosen, setChosen] = useState<ReadonlySet<string> | null>(null);
  const sorted = useMemo(
    () => [...(runs.data ?? [])].sort((a, b) => b.started_at - a.started_at),
    [runs.data],
  );
  const colours = useMemo(() => colourOf(runs.data ?? []), [runs.data]);
  const shown = sorted.filter((run, i) => (chosen ? chosen.has(run.id) : i < FIRST_SHOWN));
  const toggle = (id: string) => {
    const next = new Set(shown.map((run) => run.id));
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  return (
    <Page
      title={name}
      up={{ to: `/t/${ts}/experiments`, label: "Experiments" }}
      lead={object?.spec.description}
    >
      <Problem error={runs.data ? null : (error ?? runs.error)} />
      {runs.isPending ? <Loading what="runs" /> : null}
      {runs.data ? (
        <>
          <Section title="Curves">
            <Curves
              ts={ts}
              experiment={name}
              runs={shown.map((run) => ({ run, colour: colours.get(run.id) ?? 0 }))}
            />
          </Section>
          <Section title={plural(sorted.length, "run")}>
            <RunTable
              ts={ts}
              runs={sorted}
              shown={new Set(shown.map((run) => run.id))}
              colours={colours}
              onToggle={toggle}
            />
          </Section>
        </>
      ) : null}
    </Page>
  );
}

/** A run keeps its colour while others come and go: by its place in order of start. */
function colourOf(runs: Run[]): Map<string, number> {
  const inOrder = [...runs].sort((a, b) => a.started_at - b.started_at);
  return new Map(inOrder.map((run, i) => [run.id, i % PALETTE]));
}

interface RunTableProps {
  ts: string;
  runs: Run[];
  shown: ReadonlySet<string>;
  colours: ReadonlyMap<string, number>;
  onToggle: (id: string) => void;
}

function RunTable({ ts, runs, shown, colours, onToggle }: RunTableProps) {
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.summary ?? {})))].sort();
  const params = varying(runs);
  const columns: Column<Run>[] = [
    {
      name: "Draw",
      cell: (run) => (
        <input
          type="checkbox"
          className="swatch-check"
          style={{ "--swatch": `var(--curve-${colours.get(run.id) ?? 0})` } as React.CSSProperties}
          aria-label={`Draw ${run.name}`}
          checked={shown.has(run.id)}
          onChange={() => onToggle(run.id)}
        />
      ),
    },
    {
      name: "Run",
      header: true,
      sort: (run) => run.name,
      cell: (run) =>
        run.job ? <Link to={`/t/${ts}/jobs/${run.job}?tab=metrics`}>{run.name}</Link> : run.name,
    },
    { name: "State", sort: (run) => run.state, cell: (run) => <State state={run.state} /> },
    ...metrics.map((name): Column<Run> => {
      const value = (run: Run) => run.summary?.[name];
      return {
        name,
        numeric: true,
        sort: (run) => (value(run) === undefined ? null : toNumber(value(run)!)),
        cell: (run) => metric(value(run)),
      };
    }),
    ...params.map((name): Column<Run> => ({
      name,
      wide: true,
      sort: (run) => text(run.params[name]),
      cell: (run) => text(run.params[name]),
    })),
    {
      name: "Started",
      numeric: true,
      wide: true,
      sort: (run) => run.started_at,
      cell: (run) => stamp(run.started_at),
    },
  ];
  return (
    <Table
      label="Runs"
      columns={columns}
      items={runs}
      rowKey={(run) => run.id}
      initial={{ column: "Started", descending: true }}
    />
  );
}

/** Parameters that differ between runs: the ones worth a column. */
function varying(runs: Run[]): string[] {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.params ?? {})))];
  return names
    .filter((name) => runs.length === 1 || new Set(runs.map((run) => text(run.params?.[name]))).size > 1)
    .slice(0, 8);
}

function text(value: unknown): string {
  if (value == null) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

import { useQueries } from "@tanstack/react-query";
import { Suspense, lazy, useMemo, useState } from "react";
import { seriesQuery } from "@/api/queries";
import type { Run, Series } from "@/api/types";
import { elapsed, toCurve } from "@/lib/curve";
import { plural, toNumber } from "@/lib/numbers";
import type { Line } from "./Chart";
import { isFinal } from "./State";

const Chart = lazy(() => import("./Chart"));
export const PALETTE = 8;

interface CurvesProps {
  ts: string;
  experiment: string;
  runs: { run: Run; colour: number }[];
}

/** One chart per metric, each with every chosen run, and the controls that all charts share. */
export function Curves({ ts, experiment, runs }: CurvesProps) {
  const [smoothing, setSmoothing] = useState(0);
  const [logScale, setLogScale] = useState(false);
  const [axis, setAxis] = useState<"step" | "time">("step");
  const results = useQueries({
    queries: runs.map(({ run }) => seriesQuery(ts, experiment, run.id, !isFinal(run.state))),
  });
  const stamps = results.map((result) => result.dataUpdatedAt).join();
  const names = runs.map(({ run }) => run.id).join();
  const charts = useMemo(
    () =>
      byMetric(
        runs.map(({ run, colour }, i) => ({ name: run.name, colour, series: results[i]?.data })),
        axis,
        logScale,
      ),
    // The answers' time stamps stand for the answers.
    [stamps, names, axis, logScale],
  );
  if (!runs.length) return <p className="quiet">Choose runs in the table to compare their curves.</p>;
  return (
    <div className="curves">
      <div className="toolbar" role="group" aria-label="How to draw the curves">
        <label className="slider">
          Smoothing
          <input
            type="range"
            min="0"
            max="0.99"
            step="0.01"
            value={smoothing}
            onChange={(e) => setSmoothing(e.target.valueAsNumber)}
          />
          <output>{smoothing.toFixed(2)}</output>
        </label>
        <label className="check">
          <input type="checkbox" checked={logScale} onChange={(e) => setLogScale(e.target.checked)} /> Log
          scale
        </label>
        <label className="inline-select">
          Across
          <select value={axis} onChange={(e) => setAxis(e.target.value as "step" | "time")}>
            <option value="step">step</option>
            <option value="time">time</option>
          </select>
        </label>
        <span className="quiet toolbar-end">{plural(runs.length, "run")}</span>
      </div>
      {charts.length ? (
        <Suspense fallback={<p className="loading">Loading charts …</p>}>
          <div className="charts">
            {charts.map(([name, lines]) => (
              <Chart
                key={name}
                title={name}
                lines={lines}
                axis={axis}
                logScale={logScale}
                smoothing={smoothing}
              />
            ))}
          </div>
        </Suspense>
      ) : (
        <p className="quiet">No metrics yet. They appear here as the run reports them.</p>
      )}
      <Legend runs={runs} />
    </div>
  );
}

function Legend({ runs }: { runs: CurvesProps["runs"] }) {
  return (
    <ul className="legend" aria-label="Colours of the runs">
      {runs.map(({ run, colour }) => (
        <li key={run.id} style={{ "--swatch": `var(--curve-${colour})` } as React.CSSProperties}>
          {run.name}
        </li>
      ))}
    </ul>
  );
}

function byMetric(
  runs: { name: string; colour: number; series: Series | undefined }[],
  axis: "step" | "time",
  logScale: boolean,
): [string, Line[]][] {
  const charts = new Map<string, Line[]>();
  for (const { name, colour, series } of runs) {
    for (const [metric, points] of Object.entries(series ?? {})) {
      const x = axis === "step" ? points.step : elapsed(points.time);
      const curve = toCurve(x, points.value.map(toNumber), logScale);
      charts.set(metric, [...(charts.get(metric) ?? []), { name, colour, curve }]);
    }
  }
  return [...charts].sort(([a], [b]) => rank(a) - rank(b) || a.localeCompare(b));
}

/** Losses first: they are what people look for. */
function rank(metric: string): number {
  if (/^(train[_/])?loss/.test(metric)) return 0;
  if (metric.includes("loss")) return 1;
  return metric === "epoch" ? 3 : 2;
}

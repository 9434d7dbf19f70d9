import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colour } from "@/lib/colour";
import { type Curve, downsample, smooth } from "@/lib/curve";
import { metric } from "@/lib/numbers";
import { useDark } from "@/lib/theme";
import { duration } from "@/lib/time";

export interface Line {
  name: string;
  /** Index into the palette of styles/tokens.css. */
  colour: number;
  curve: Curve;
}

interface ChartProps {
  title: string;
  lines: Line[];
  axis: "step" | "time";
  logScale: boolean;
  smoothing: number;
}

const HEIGHT = 220;

/** Curves over one axis. The drawing is a picture to screen readers; its name tells the last values. */
export default function Chart({ title, lines, axis, logScale, smoothing }: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useDark();
  const shape = lines.map((line) => `${line.name}/${line.colour}`).join("|");

  useEffect(() => {
    const element = frame.current!;
    const chart = new uPlot(
      options(element, lines, axis, logScale, smoothing > 0),
      table(element, lines, smoothing),
      element,
    );
    plot.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
    // New points are given to the standing chart below; only a new shape builds a new one.
  }, [shape, axis, logScale, smoothing > 0, dark]);

  useEffect(() => {
    if (frame.current) plot.current?.setData(table(frame.current, lines, smoothing));
  }, [lines, smoothing]);

  return (
    <figure className="chart">
      <figcaption>{title}</figcaption>
      <div ref={frame} className="chart-frame" role="img" aria-label={summary(title, lines)} />
    </figure>
  );
}

function summary(title: string, lines: Line[]): string {
  const values = lines.map((line) => `${line.name} ${metric(line.curve.y.findLast((v) => v !== null))}`);
  return `Chart of ${title}. Last values: ${values.join(", ") || "none"}`;
}

/** The columns that uPlot draws: a shared x, then per line the raw curve and, when smoothing, the smooth one. */
function table(element: HTMLElement, lines: Line[], smoothing: number): uPlot.AlignedData {
  const limit = Math.max(200, element.clientWidth * 2);
  const columns: uPlot.AlignedData[] = [];
  for (const { curve } of lines) {
    const raw = downsample(curve, limit);
    columns.push([raw.x, raw.y]);
    if (smoothing > 0) {
      const soft = downsample({ x: curve.x, y: smooth(curve.y, smoothing) }, limit);
      columns.push([soft.x, soft.y]);
    }
  }
  return columns.length ? uPlot.join(columns) : [[]];
}

function options(
  element: HTMLElement,
  lines: Line[],
  axis: string,
  logScale: boolean,
  smoothed: boolean,
): uPlot.Options {
  const ink = colour(element, "--text-soft");
  const grid = colour(element, "--line");
  const font = `11px ${getComputedStyle(element).fontFamily}`;
  const look = {
    stroke: ink,
    grid: { stroke: grid, width: 1 },
    ticks: { stroke: grid, width: 1, size: 4 },
    font,
  };
  const showX = axis === "time" ? duration : (v: number) => v.toLocaleString("en-US");
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [10, 14, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: true, y: false }, points: { size: 6 } },
    scales: { x: { time: false }, y: { distr: logScale ? 3 : 1 } },
    axes: [
      { ...look, values: (_, ticks) => ticks.map(showX), space: axis === "time" ? 70 : 55, size: 30 },
      { ...look, values: (_, ticks) => ticks.map((v) => (v === null ? "" : metric(v))), size: 50 },
    ],
    series: [{}, ...lines.flatMap((line) => strokes(line, element, smoothed))],
    plugins: [tooltip(lines, showX, smoothed)],
  };
}

function strokes(line: Line, element: HTMLElement, smoothed: boolean): uPlot.Series[] {
  const stroke = colour(element, `--curve-${line.colour}`);
  const points = { show: (_: uPlot, __: number, first: number, last: number) => last - first < 3 };
  const main: uPlot.Series = { stroke, width: 1.75, points };
  return smoothed ? [{ stroke, width: 1, alpha: 0.25, points: { show: false } }, main] : [main];
}

/** A small box beside the cursor with the value of each line; drawn by hand, so that moving costs no render. */
function tooltip(lines: Line[], showX: (v: number) => string, smoothed: boolean): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = "chart-tip";
  box.hidden = true;
  const move = (u: uPlot) => {
    const { idx, left } = u.cursor;
    box.hidden = idx == null || left == null || left < 0;
    if (box.hidden) return;
    const rows = lines.map((line, i) => {
      const column = u.data[smoothed ? 2 * i + 2 : i + 1];
      return { line, value: column?.[idx!] };
    });
    box.replaceChildren(text("b", showX(u.data[0][idx!] ?? 0)));
    for (const { line, value } of rows) {
      if (value == null) continue;
      const row = text("span", `${line.name}  ${metric(value)}`);
      row.style.setProperty("--swatch", `var(--curve-${line.colour})`);
      box.append(row);
    }
    box.classList.toggle("chart-tip-left", left! > u.over.clientWidth / 2);
    box.style.transform = `translateX(${left}px)`;
  };
  return { hooks: { init: (u) => u.over.append(box), setCursor: move } };
}

function text(tag: string, content: string): HTMLElement {
  const element = document.createElement(tag);
  element.textContent = content;
  return element;
}

import type { Sampling } from "@/api/chat";
import { useRef, useState } from "react";
import { type GenerateOptions, generate } from "@/api/chat";
import { useAction } from "@/components/action";

export const FIRST_SAMPLING: Sampling = { temperature: 0.7, max_tokens: 200 };

/** The two settings that matter when trying a model. */
export function SamplingFields({
  value,
  onChange,
}: {
  value: Sampling;
  onChange: (value: Sampling) => void;
}) {
  return (
    <div className="toolbar sampling">
      <label className="slider">
        Temperature
        <input
          type="range"
          min="0"
          max="2"
          step="0.1"
          value={value.temperature}
          onChange={(e) => onChange({ ...value, temperature: e.target.valueAsNumber })}
        />
        <output>{value.temperature.toFixed(1)}</output>
      </label>
      <label className="inline-select">
        Longest answer
        <select
          value={value.max_tokens}
          onChange={(e) => onChange({ ...value, max_tokens: Number(e.target.value) })}
        >
          {[50, 200, 500, 2000].map((count) => (
            <option key={count} value={count}>
              {count} tokens
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

/** Streams an answer, can be stopped, and tells how fast the pieces came. */
export function useGenerate() {
  const { run, busy, problem } = useAction({ quiet: true });
  const [note, setNote] = useState("");
  const stopper = useRef<AbortController | null>(null);
  const start = (options: Omit<GenerateOptions, "signal">) => {
    const stop = (stopper.current = new AbortController());
    const from = performance.now();
    let pieces = 0;
    let first = 0;
    const onText = (text: string) => {
      pieces += 1;
      first ||= performance.now() - from;
      options.onText(text);
    };
    setNote("Waiting for the first token …");
    return run(async () => {
      try {
        const { finish } = await generate({ ...options, onText, signal: stop.signal });
        setNote(summary(pieces, first, performance.now() - from, finish));
      } catch (error) {
        setNote(stop.signal.aborted ? "Stopped." : "");
        if (!stop.signal.aborted) throw error;
      }
    });
  };
  return { start, stop: () => stopper.current?.abort(), busy, problem, note };
}

function summary(pieces: number, firstMs: number, totalMs: number, finish: string | null): string {
  const rate = totalMs > firstMs ? ((pieces - 1) / (totalMs - firstMs)) * 1000 : 0;
  const parts = [`${pieces} pieces`, `first after ${Math.round(firstMs)} ms`];
  if (rate > 0 && pieces > 1) parts.push(`${rate.toFixed(0)} per second`);
  if (finish === "length") parts.push("cut at the longest answer");
  return parts.join(" · ");
}

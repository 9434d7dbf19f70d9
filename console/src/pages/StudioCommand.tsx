import { type FormEvent, useRef, useState } from "react";
import { exec } from "@/api/exec";
import { Button } from "@/components/Button";
import { TextField } from "@/components/Field";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/action";

/** One command without a terminal: its output as it comes, then its exit code. */
export function StudioCommand({ ts, name }: { ts: string; name: string }) {
  const [line, setLine] = useState("");
  const [output, setOutput] = useState("");
  const [exit, setExit] = useState<number | null>(null);
  const { run, busy, problem } = useAction({ quiet: true });
  const stop = useRef<AbortController | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (busy || !line.trim()) return;
    setOutput("");
    setExit(null);
    stop.current = new AbortController();
    const { signal } = stop.current;
    void run(async () => {
      try {
        setExit(
          await exec(ts, name, line, signal, (text) => setOutput((old) => (old + text).slice(-200_000))),
        );
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    });
  };
  return (
    <div className="runner">
      <form onSubmit={submit} className="runner-form">
        <TextField
          label="Command"
          className="mono"
          value={line}
          placeholder="python --version"
          hint="Runs in the Studio's home folder, through its shell."
          onChange={(event) => setLine(event.target.value)}
        />
        {busy ? (
          <Button onClick={() => stop.current?.abort()}>Stop</Button>
        ) : (
          <Button type="submit" look="primary">
            Run
          </Button>
        )}
      </form>
      <Problem error={problem} />
      <pre className="output" role="log" aria-label="Output" tabIndex={0}>
        {output || (busy ? "Running …" : "Its output appears here.")}
      </pre>
      <p role="status" className={exit ? "exit exit-bad" : "exit"}>
        {exit === null ? "" : exit === 0 ? "Finished: exit code 0" : `Failed: exit code ${exit}`}
      </p>
    </div>
  );
}

import { type FormEvent, useState } from "react";
import { Button } from "@/components/Button";
import { SelectField, TextArea, TextField } from "@/components/Field";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/action";

interface Answer {
  status: string;
  good: boolean;
  ms: number;
  body: string;
}

const LONGEST = 100_000;

/** Any HTTP request to a deployment, for those that do not speak the OpenAI API. */
export function RawRequest({ address }: { address: string }) {
  const [method, setMethod] = useState("GET");
  const [path, setPath] = useState("/");
  const [body, setBody] = useState("{}");
  const [answer, setAnswer] = useState<Answer | null>(null);
  const { run, busy, problem } = useAction({ quiet: true });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    void run(async () => {
      setAnswer(null);
      setAnswer(await request(address + (path.startsWith("/") ? path : `/${path}`), method, body));
    });
  };
  return (
    <form className="raw" onSubmit={submit}>
      <div className="raw-line">
        <SelectField label="Method" value={method} onChange={(event) => setMethod(event.target.value)}>
          {["GET", "POST", "PUT", "DELETE"].map((name) => (
            <option key={name}>{name}</option>
          ))}
        </SelectField>
        <TextField
          label="Path"
          className="mono"
          value={path}
          onChange={(event) => setPath(event.target.value)}
        />
        <Button type="submit" look="primary" busy={busy}>
          Send
        </Button>
      </div>
      {method === "GET" || method === "DELETE" ? null : (
        <TextArea
          label="JSON body"
          className="mono"
          rows={5}
          value={body}
          onChange={(event) => setBody(event.target.value)}
        />
      )}
      <Problem error={problem} />
      <div role="status">
        {answer ? (
          <p className={answer.good ? "exit" : "exit exit-bad"}>
            {answer.status} in {answer.ms} ms
          </p>
        ) : null}
      </div>
      {answer ? (
        <pre className="output output-wrap" tabIndex={0} aria-label="Answer">
          {answer.body || "(empty)"}
        </pre>
      ) : null}
    </form>
  );
}

async function request(url: string, method: string, body: string): Promise<Answer> {
  const from = performance.now();
  const sends = method !== "GET" && method !== "DELETE";
  const response = await fetch(url, {
    method,
    credentials: "same-origin",
    ...(sends ? { body, headers: { "content-type": "application/json" } } : {}),
  });
  const text = (await response.text()).slice(0, LONGEST);
  const ms = Math.round(performance.now() - from);
  return {
    status: `${response.status} ${response.statusText}`.trim(),
    good: response.ok,
    ms,
    body: pretty(text),
  };
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

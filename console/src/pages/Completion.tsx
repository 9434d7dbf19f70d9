import { useState } from "react";
import { Button } from "@/components/Button";
import { TextArea } from "@/components/Field";
import { Problem } from "@/components/Problem";
import { FIRST_SAMPLING, SamplingFields, useGenerate } from "./sampling";

/** Lets a model go on with a text. */
export function Completion({ base, model }: { base: string; model: string }) {
  const [prompt, setPrompt] = useState("def __init__(self");
  const [asked, setAsked] = useState("");
  const [answer, setAnswer] = useState("");
  const [sampling, setSampling] = useState(FIRST_SAMPLING);
  const { start, stop, busy, problem, note } = useGenerate();
  const send = () => {
    setAsked(prompt);
    setAnswer("");
    void start({ base, model, prompt, sampling, onText: (piece) => setAnswer((old) => old + piece) });
  };
  return (
    <div className="chat">
      <TextArea
        label="Prompt"
        className="mono"
        value={prompt}
        onChange={(event) => setPrompt(event.target.value)}
      />
      <div className="row">
        {busy ? (
          <Button onClick={stop}>Stop</Button>
        ) : (
          <Button look="primary" disabled={!prompt} onClick={send}>
            Complete
          </Button>
        )}
        <SamplingFields value={sampling} onChange={setSampling} />
      </div>
      <Problem error={problem} />
      <pre className="output output-wrap" role="log" aria-label="Completion" aria-busy={busy} tabIndex={0}>
        {asked ? (
          <>
            <span className="asked">{asked}</span>
            {answer}
          </>
        ) : (
          "The prompt and what the model adds appear here."
        )}
      </pre>
      <p className="quiet chat-note" role="status">
        {note}
      </p>
    </div>
  );
}

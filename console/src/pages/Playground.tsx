import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { listModels } from "@/api/chat";
import { Button } from "@/components/Button";
import { Loading } from "@/components/Empty";
import { Problem } from "@/components/Problem";
import { Chat } from "./Chat";
import { Completion } from "./Completion";
import { RawRequest } from "./RawRequest";

type Mode = "chat" | "completion" | "http";
const MODES: [Mode, string][] = [
  ["chat", "Chat"],
  ["completion", "Completion"],
  ["http", "HTTP request"],
];

/** Talks to a deployment through its public address, as any client would. */
export function Playground({ address }: { address: string }) {
  const [mode, setMode] = useState<Mode>("chat");
  const [awake, setAwake] = useState(false);
  const base = `${address}/v1`;
  return (
    <div className="playground">
      <div className="toolbar">
        <div className="segments" role="group" aria-label="What to send">
          {MODES.map(([id, label]) => (
            <button key={id} type="button" aria-pressed={mode === id} onClick={() => setMode(id)}>
              {label}
            </button>
          ))}
        </div>
      </div>
      {mode === "http" ? <RawRequest address={address} /> : null}
      {mode !== "http" && !awake ? (
        <div className="wake">
          <p className="quiet">Sending a request wakes a sleeping Deployment and starts its bill.</p>
          <Button look="primary" onClick={() => setAwake(true)}>
            Connect
          </Button>
        </div>
      ) : null}
      {mode !== "http" && awake ? <WithModel base={base} mode={mode} /> : null}
    </div>
  );
}

/** Asks which model answers, once, then shows the chat or the completion. */
function WithModel({ base, mode }: { base: string; mode: "chat" | "completion" }) {
  const [model, setModel] = useState("");
  const found = useQuery({
    queryKey: ["models-of", base],
    queryFn: ({ signal }) => listModels(base, signal),
    retry: false,
    staleTime: Infinity,
  });
  if (found.isFetching) return <Loading what="model; a sleeping Deployment wakes up first" />;
  if (found.error) return <Problem error={found.error} onRetry={() => void found.refetch()} />;
  const models = found.data ?? [];
  if (!models.length) {
    return (
      <p className="quiet">
        It lists no models at {base}/models, so it may not speak the OpenAI API. Use HTTP request instead.
      </p>
    );
  }
  const chosen = model || models[0]!;
  return (
    <>
      {models.length > 1 ? (
        <label className="inline-select">
          Model
          <select value={chosen} onChange={(event) => setModel(event.target.value)}>
            {models.map((id) => (
              <option key={id}>{id}</option>
            ))}
          </select>
        </label>
      ) : null}
      {mode === "chat" ? <Chat base={base} model={chosen} /> : <Completion base={base} model={chosen} />}
    </>
  );
}

import { path, stream } from "./http";

interface ExecMessage {
  stream?: "stdout" | "stderr";
  data?: string;
  exit?: number;
  error?: { message?: string };
}

/** Runs a command in a Studio; gives its output piece by piece, then its exit code. */
export async function exec(
  ts: string,
  studio: string,
  command: string,
  signal: AbortSignal,
  onText: (text: string) => void,
): Promise<number> {
  const reader = await stream(`/api/v1${path(ts, "studios", studio, "exec")}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ command }),
    signal,
  });
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const lines = rest.split("\n");
    rest = done ? "" : (lines.pop() ?? "");
    for (const line of lines) {
      if (!line.trim()) continue;
      const message = JSON.parse(line) as ExecMessage;
      if (message.error) throw new Error(message.error.message ?? "The command could not be run.");
      if (message.data) onText(message.data);
      if (message.exit !== undefined) return message.exit;
    }
    if (done) throw new Error("The connection ended before the command did. It may still be running.");
  }
}

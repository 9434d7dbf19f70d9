import { EventParser } from "@/lib/sse";
import { failure, stream } from "./http";

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}
export interface Sampling {
  temperature: number;
  max_tokens: number;
}
export interface GenerateOptions {
  base: string;
  model: string;
  prompt: string | ChatMessage[];
  sampling: Sampling;
  signal: AbortSignal;
  onText: (piece: string) => void;
}

/** Streams a chat (a list of messages) or a completion (a text) from an OpenAI-compatible address. */
export async function generate(options: GenerateOptions): Promise<{ finish: string | null }> {
  const { base, model, prompt, sampling, signal } = options;
  const isChat = typeof prompt !== "string";
  const reader = await stream(`${base}/${isChat ? "chat/completions" : "completions"}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model,
      stream: true,
      ...sampling,
      ...(isChat ? { messages: prompt } : { prompt }),
    }),
    signal,
  });
  const parser = new EventParser();
  const decoder = new TextDecoder();
  let finish: string | null = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { finish };
    for (const event of parser.push(decoder.decode(value, { stream: true }))) {
      if (event.data === "[DONE]") return { finish };
      const piece = readPiece(event.data);
      if (piece.text) options.onText(piece.text);
      finish = piece.finish ?? finish;
    }
  }
}

interface Chunk {
  choices?: { delta?: { content?: string | null }; text?: string; finish_reason?: string | null }[];
  error?: { message?: string };
}

function readPiece(data: string): { text: string; finish: string | null } {
  const chunk = JSON.parse(data) as Chunk;
  if (chunk.error) throw new Error(chunk.error.message ?? "The model stopped with an error.");
  const choice = chunk.choices?.[0];
  return { text: choice?.delta?.content ?? choice?.text ?? "", finish: choice?.finish_reason ?? null };
}

/** The models that a deployment offers; empty when it answers but does not speak the OpenAI API. */
export async function listModels(base: string, signal?: AbortSignal): Promise<string[]> {
  const response = await fetch(`${base}/models`, { credentials: "same-origin", signal: signal ?? null });
  if (response.status >= 500 || response.status === 429) throw await failure(response);
  if (!response.ok) return [];
  const body = (await response.json().catch(() => null)) as { data?: { id: string }[] } | null;
  return body?.data?.map((model) => model.id) ?? [];
}

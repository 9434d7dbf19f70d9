/** What the API said no with: one clear sentence and what to do. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** The event that says the session has ended; the app shows the sign-in page. */
export const SIGNED_OUT = "blixt:signed-out";

/** One call to the API. Paths start after /api/v1. */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, credentials: "same-origin", headers: { accept: "application/json" } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...init.headers, "content-type": "application/json" };
  }
  const response = await reach(`/api/v1${path}`, init);
  if (!response.ok) throw await failure(response);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string) => call<T>("GET", path);
export const post = <T>(path: string, body: unknown = {}) => call<T>("POST", path, body);

/** A call whose answer is read piece by piece. */
export async function stream(
  url: string,
  init: RequestInit = {},
): Promise<ReadableStreamDefaultReader<Uint8Array>> {
  const response = await reach(url, { credentials: "same-origin", ...init });
  if (!response.ok) throw await failure(response);
  if (!response.body) throw new ApiError(response.status, "no_body", "The server sent an empty answer.");
  return response.body.getReader();
}

/** Fetch, with the network's own failure put into words. */
async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(
      0,
      "unreachable",
      "The server cannot be reached.",
      "Check that `blixt up` is still running.",
    );
  }
}

/** Reads an error answer in the API's shape, the OpenAI shape (also `error.message`) or none. */
export async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  const error = errorBody(text);
  const ours = new URL(response.url, location.href).pathname.startsWith("/api/");
  if (response.status === 401 && ours) window.dispatchEvent(new Event(SIGNED_OUT));
  const message = error?.message ?? (text.length < 300 && text.trim() ? text.trim() : null);
  return new ApiError(
    response.status,
    error?.code ?? "http_error",
    message ?? `The server answered ${response.status} ${response.statusText}.`.trim(),
    error?.hint ?? null,
  );
}

function errorBody(text: string): { code?: string; message?: string; hint?: string } | null {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body && "error" in body) return body.error as { message?: string };
  } catch {
    // Not JSON: a proxy's page or plain text.
  }
  return null;
}

/** The path of a kind in a teamspace, of one object, or of something under it. */
export function path(teamspace: string, plural: string, name?: string, ...rest: string[]): string {
  return ["/teamspaces", teamspace, plural, ...(name === undefined ? [] : [name]), ...rest]
    .map((part, i) => (i ? encodeURIComponent(part) : part))
    .join("/");
}

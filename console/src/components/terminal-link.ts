/** What a terminal's connection is doing. */
export type LinkState =
  | { kind: "connecting" }
  | { kind: "open" }
  | { kind: "waiting"; failures: number }
  | { kind: "exited"; code: number | null }
  | { kind: "taken" };

interface LinkEvents {
  size: () => [number, number];
  onBytes: (bytes: Uint8Array) => void;
  onState: (state: LinkState) => void;
}

/**
 * The WebSocket to a shell: binary frames are terminal bytes, text frames are JSON. A lost connection is made again
 * with the same session, so the shell and what runs in it are still there.
 */
export class TerminalLink {
  private socket: WebSocket | null = null;
  private failures = 0;
  private closed = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly address: string,
    private readonly session: string,
    private readonly events: LinkEvents,
  ) {
    this.connect();
  }

  send(data: string): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(new TextEncoder().encode(data));
  }

  resize(cols: number, rows: number): void {
    if (this.socket?.readyState === WebSocket.OPEN)
      this.socket.send(JSON.stringify({ resize: [cols, rows] }));
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  private connect(): void {
    const [cols, rows] = this.events.size();
    const query = new URLSearchParams({ cols: String(cols), rows: String(rows), session: this.session });
    const socket = new WebSocket(`${this.address}?${query}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.events.onState({ kind: "connecting" });
    socket.onopen = () => {
      this.failures = 0;
      this.events.onState({ kind: "open" });
    };
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => this.receive(event.data);
    socket.onclose = () => this.retry();
  }

  private receive(data: string | ArrayBuffer): void {
    if (typeof data !== "string") return this.events.onBytes(new Uint8Array(data));
    const message = JSON.parse(data) as { exit?: number | null; taken_over?: boolean };
    if (!("exit" in message)) return;
    this.closed = true;
    this.events.onState(
      message.taken_over ? { kind: "taken" } : { kind: "exited", code: message.exit ?? null },
    );
    this.socket?.close();
  }

  private retry(): void {
    if (this.closed) return;
    this.failures += 1;
    const seconds = Math.min(10, 2 ** (this.failures - 1) / 2);
    this.events.onState({ kind: "waiting", failures: this.failures });
    this.timer = setTimeout(() => this.connect(), seconds * 1000);
  }
}

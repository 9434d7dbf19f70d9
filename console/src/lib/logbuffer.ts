/** How many lines fit into one block; a block is what the log view renders and remembers. */
export const BLOCK_LINES = 200;

/** A run of consecutive lines; a full block never changes again. */
export interface Block {
  first: number;
  lines: string[];
  version: number;
}

/**
 * The tail of a log as lines in blocks. Text arrives in pieces that may end anywhere; a carriage return
 * rewrites its line, as progress bars expect. Beyond `limit` lines the oldest block is dropped and counted.
 */
export class LogBuffer {
  readonly blocks: Block[] = [];
  version = 0;
  private next = 0;
  private open = "";
  private openShown = false;

  constructor(private readonly limit = 20_000) {}

  get lineCount(): number {
    return this.next;
  }

  get droppedCount(): number {
    return this.blocks[0]?.first ?? 0;
  }

  append(text: string): void {
    if (!text) return;
    this.version += 1;
    const pieces = text.split("\n");
    for (const [i, piece] of pieces.entries()) {
      this.open += piece;
      if (i < pieces.length - 1) this.finishLine();
    }
    if (this.open.length > 65_536) this.finishLine();
    else if (this.open || this.openShown) this.showOpen();
    this.trim();
  }

  clear(): void {
    this.blocks.length = 0;
    this.version += 1;
    this.next = 0;
    this.open = "";
    this.openShown = false;
  }

  /** Every kept line, oldest first. */
  lines(): string[] {
    return this.blocks.flatMap((block) => block.lines);
  }

  private finishLine(): void {
    this.showOpen();
    this.open = "";
    this.openShown = false;
  }

  private showOpen(): void {
    const line = rewrite(this.open);
    const block = this.openShown ? this.blocks.at(-1)! : this.blockWithRoom();
    if (this.openShown) block.lines[block.lines.length - 1] = line;
    else {
      block.lines.push(line);
      this.next += 1;
    }
    block.version += 1;
    this.openShown = true;
  }

  private blockWithRoom(): Block {
    const last = this.blocks.at(-1);
    if (last && last.lines.length < BLOCK_LINES) return last;
    const block: Block = { first: this.next, lines: [], version: 0 };
    this.blocks.push(block);
    return block;
  }

  private trim(): void {
    while (this.blocks.length > 1 && this.next - this.blocks[0]!.first - BLOCK_LINES >= this.limit) {
      this.blocks.shift();
    }
  }
}

/** What a terminal would show for a line with carriage returns: the text after the last one that has any. */
function rewrite(line: string): string {
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  const at = text.lastIndexOf("\r");
  return at < 0 ? text : text.slice(at + 1);
}

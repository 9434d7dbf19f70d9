/** Reads "KEY=value" lines; blank lines and lines starting with # are skipped. */
export function parseEnv(text: string): { env: Record<string, string>; problem: string | null } {
  const env: Record<string, string> = {};
  for (const [i, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (!line || line.startsWith("#")) continue;
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (!match) return { env, problem: `Line ${i + 1} is not KEY=value: ${line}` };
    env[match[1]!] = match[2]!;
  }
  return { env, problem: null };
}

/** A command as one line, whether it was given as words or as a line. */
export function commandLine(command: string | string[] | null | undefined): string {
  if (command == null) return "";
  return typeof command === "string" ? command : command.map(quote).join(" ");
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}

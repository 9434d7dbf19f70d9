const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Why a name is not allowed, or null when it is. */
export function nameProblem(name: string): string | null {
  if (!name) return "Give it a name.";
  if (NAME.test(name)) return null;
  if (name.length > 63) return "Names have at most 63 characters.";
  return "Use lower-case letters, digits and dashes; start and end with a letter or digit.";
}

const ADJECTIVES = ["amber", "brisk", "calm", "clear", "eager", "keen", "lucid", "quick", "steady", "vivid"];
const NOUNS = ["arc", "bolt", "cloud", "ember", "flash", "gale", "rain", "spark", "storm", "volt"];

/** A friendly free name to start from, such as "brisk-volt". */
export function suggestName(taken: readonly string[], random: () => number = Math.random): string {
  const pick = (words: string[]) => words[Math.floor(random() * words.length)] ?? words[0]!;
  const base = `${pick(ADJECTIVES)}-${pick(NOUNS)}`;
  let name = base;
  for (let n = 2; taken.includes(name); n += 1) name = `${base}-${n}`;
  return name;
}

import { useEffect, useState } from "react";
import { Button } from "./Button";
import { CheckIcon, CopyIcon } from "./icons";

/** Copies a text; works without the clipboard API too, which browsers hide on plain http. */
async function copy(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function CopyButton({ text, what = "command" }: { text: string; what?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const wait = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(wait);
  }, [copied]);
  return (
    <Button
      look="quiet"
      size="small"
      className="copy"
      aria-label={copied ? "Copied" : `Copy ${what}`}
      onClick={() => void copy(text).then(() => setCopied(true))}
    >
      {copied ? <CheckIcon /> : <CopyIcon />}
    </Button>
  );
}

/** One shell command with a prompt and a copy button. */
export function Command({ children }: { children: string }) {
  return (
    <div className="command">
      <code>
        <span className="prompt" aria-hidden="true">
          ${" "}
        </span>
        {children}
      </code>
      <CopyButton text={children} />
    </div>
  );
}

/** A longer snippet in a named, scrollable box. */
export function Snippet({ label, children }: { label: string; children: string }) {
  return (
    <figure className="snippet">
      <figcaption>
        {label}
        <CopyButton text={children} what={label} />
      </figcaption>
      <pre tabIndex={0} aria-label={label}>
        <code>{children}</code>
      </pre>
    </figure>
  );
}

import type { ButtonHTMLAttributes } from "react";

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "primary" | "plain" | "quiet" | "danger";
  size?: "small" | "normal";
  /** While true the button keeps its focus but does nothing, and says that it is busy. */
  busy?: boolean;
}

/** The one button. It never submits a form unless told to. */
export function Button({
  look = "plain",
  size = "normal",
  busy = false,
  className,
  onClick,
  ...rest
}: ButtonProps) {
  return (
    <button
      type="button"
      className={`button button-${look} button-${size} ${className ?? ""}`}
      aria-busy={busy || undefined}
      aria-disabled={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
      {...rest}
    />
  );
}

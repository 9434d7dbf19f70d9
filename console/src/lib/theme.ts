import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const KEY = "blixt-theme";
const CHANGED = "blixt:theme";

function chosen(): Theme {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "system";
}

/** Chooses a theme and remembers it; "system" follows the machine again. */
export function setTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Storage may be blocked; the choice then lasts until the page is closed.
  }
  window.dispatchEvent(new Event(CHANGED));
}

function subscribe(listener: () => void): () => void {
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", listener);
  window.addEventListener(CHANGED, listener);
  return () => {
    media.removeEventListener("change", listener);
    window.removeEventListener(CHANGED, listener);
  };
}

/** What was chosen. */
export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, chosen);
}

/** Whether the page is dark now, for drawings that cannot use CSS variables by themselves. */
export function useDark(): boolean {
  return useSyncExternalStore(subscribe, () => {
    const theme = chosen();
    return theme === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : theme === "dark";
  });
}

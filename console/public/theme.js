// Runs before the first paint, so that a chosen theme never flashes into the other one.
try {
  const theme = localStorage.getItem("blixt-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be blocked; the system's theme is used then.
}

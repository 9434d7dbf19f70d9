/** The colour that a CSS variable stands for now, as rgb(): canvases cannot read light-dark(). */
export function colour(element: HTMLElement, variable: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${variable})`;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

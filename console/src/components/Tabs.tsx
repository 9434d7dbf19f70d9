import { type KeyboardEvent, type ReactNode, useId, useRef } from "react";
import { useSearchParams } from "react-router";

export interface Tab {
  id: string;
  label: string;
  body: () => ReactNode;
}

/** Tabs by the ARIA pattern (arrow keys move); the chosen one is part of the address. */
export function Tabs({ label, tabs }: { label: string; tabs: Tab[] }) {
  const [params, setParams] = useSearchParams();
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const active = tabs.find((tab) => tab.id === params.get("tab")) ?? tabs[0]!;
  const choose = (tab: Tab) => setParams((old) => (old.set("tab", tab.id), old), { replace: true });
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = {
      ArrowRight: 1,
      ArrowLeft: -1,
      Home: -tabs.indexOf(active),
      End: tabs.length - 1 - tabs.indexOf(active),
    };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const at = (tabs.indexOf(active) + step + tabs.length) % tabs.length;
    choose(tabs[at]!);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[at]?.focus();
  };
  return (
    <div className="tabs">
      <div className="tablist" role="tablist" aria-label={label} ref={list} onKeyDown={onKeyDown}>
        {tabs.map((tab) => (
          <button
            key={tab.id}
            type="button"
            role="tab"
            id={`${id}-${tab.id}`}
            aria-selected={tab === active}
            aria-controls={`${id}-panel`}
            tabIndex={tab === active ? 0 : -1}
            onClick={() => choose(tab)}
          >
            {tab.label}
          </button>
        ))}
      </div>
      <div
        className="tabpanel"
        role="tabpanel"
        id={`${id}-panel`}
        aria-labelledby={`${id}-${active.id}`}
        key={active.id}
      >
        {active.body()}
      </div>
    </div>
  );
}

import { type ReactNode, useEffect, useRef } from "react";
import { Link, useLocation } from "react-router";
import { useCanWork } from "./role";

interface PageProps {
  title: string;
  /** Where this page hangs: shown above the title as a link. */
  up?: { to: string; label: string };
  aside?: ReactNode;
  /** Buttons that change something; viewers do not see them. */
  actions?: ReactNode;
  lead?: ReactNode;
  children: ReactNode;
}

let firstPath: string | null = null;

/** A page's frame: its name in the window title and as the one h1, which takes the focus after a navigation. */
export function Page({ title, up, aside, actions, lead, children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { pathname } = useLocation();
  const canWork = useCanWork();
  useEffect(() => {
    document.title = `${title} · blixt`;
  }, [title]);
  useEffect(() => {
    firstPath ??= pathname;
    if (firstPath !== pathname) {
      firstPath = "";
      heading.current?.focus({ preventScroll: true });
      window.scrollTo(0, 0);
    }
  }, [pathname]);
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          {up ? (
            <p className="page-up">
              <Link to={up.to}>{up.label}</Link>
              <span aria-hidden="true"> /</span>
            </p>
          ) : null}
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {aside}
        </div>
        {actions && canWork ? <div className="page-actions">{actions}</div> : null}
        {lead ? <p className="page-lead">{lead}</p> : null}
      </header>
      {children}
    </div>
  );
}

/** A titled part of a page. */
export function Section({
  title,
  actions,
  children,
}: {
  title: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <section className="section">
      <div className="section-head">
        <h2>{title}</h2>
        {actions}
      </div>
      {children}
    </section>
  );
}

/** Facts as name and value. */
export function Facts({ items }: { items: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {items.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

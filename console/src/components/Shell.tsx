import { Suspense, useEffect, useState } from "react";
import { Outlet, useLocation } from "react-router";
import type { WhoAmI } from "@/api/types";
import { useWatch } from "@/api/watch";
import { useTs } from "@/lib/hooks";
import { NotHere } from "@/pages/NotFound";
import { Button } from "./Button";
import { Loading } from "./Empty";
import { Meter } from "./Meter";
import { Nav } from "./Nav";
import { CloseIcon, Mark, MenuIcon } from "./icons";

/** The frame of every page: navigation at the side, the meter on top, one main landmark. */
export function Shell({ me }: { me: WhoAmI }) {
  const ts = useTs();
  const known = me.teamspaces.some((teamspace) => teamspace.name === ts);
  useEffect(() => {
    if (known) localStorage.setItem("blixt-teamspace", ts);
  }, [ts, known]);
  return known ? <Frame key={ts} me={me} ts={ts} /> : <NotHere teamspace={ts} />;
}

function Frame({ me, ts }: { me: WhoAmI; ts: string }) {
  const live = useWatch(ts);
  const [open, setOpen] = useState(false);
  const { pathname } = useLocation();
  useEffect(() => setOpen(false), [pathname]);
  return (
    <div className={`shell ${open ? "shell-open" : ""}`}>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <header className="topbar">
        <Button
          look="quiet"
          className="menu-button"
          aria-label={open ? "Close menu" : "Open menu"}
          aria-expanded={open}
          aria-controls="nav"
          onClick={() => setOpen(!open)}
        >
          {open ? <CloseIcon /> : <MenuIcon />}
        </Button>
        <span className="topbar-mark">
          <Mark />
        </span>
        <Meter ts={ts} />
        {live === "waiting" ? (
          <p className="offline" role="status">
            Not live: trying to reach the server …
          </p>
        ) : null}
      </header>
      <aside className="side" id="nav" onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
        <Nav me={me} ts={ts} />
      </aside>
      <main id="main" tabIndex={-1}>
        <Suspense fallback={<Loading what="page" />}>
          <Outlet />
        </Suspense>
      </main>
    </div>
  );
}

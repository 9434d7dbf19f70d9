import { useQueryClient } from "@tanstack/react-query";
import { Suspense, lazy, useEffect, useState } from "react";
import { Navigate, Route, Routes, useSearchParams } from "react-router";
import { signIn } from "./api/actions";
import { ApiError, SIGNED_OUT } from "./api/http";
import { keys } from "./api/keys";
import { useMe } from "./api/queries";
import type { WhoAmI } from "./api/types";
import { Loading } from "./components/Empty";
import { Problem } from "./components/Problem";
import { Shell } from "./components/Shell";
import { Home } from "./pages/Home";
import { NotFound } from "./pages/NotFound";
import { NoTeamspace, SignIn } from "./pages/SignIn";

const Studios = lazy(() => import("./pages/Studios"));
const Studio = lazy(() => import("./pages/Studio"));
const Jobs = lazy(() => import("./pages/Jobs"));
const Job = lazy(() => import("./pages/Job"));
const Experiments = lazy(() => import("./pages/Experiments"));
const Experiment = lazy(() => import("./pages/Experiment"));
const Models = lazy(() => import("./pages/Models"));
const Model = lazy(() => import("./pages/Model"));
const Deployments = lazy(() => import("./pages/Deployments"));
const Deployment = lazy(() => import("./pages/Deployment"));
const Secrets = lazy(() => import("./pages/Secrets"));
const Billing = lazy(() => import("./pages/Billing"));
const Members = lazy(() => import("./pages/Members"));

/** Signed in or not, then the page that the address names. */
export function App() {
  const ticket = useTicket();
  const me = useMe(!ticket.pending);
  const client = useQueryClient();
  useEffect(() => {
    const leave = () => client.setQueryData(keys.me, null);
    window.addEventListener(SIGNED_OUT, leave);
    return () => window.removeEventListener(SIGNED_OUT, leave);
  }, [client]);

  if (ticket.pending) return <Splash what="sign-in link" />;
  if (me.data) return <Signed me={me.data} />;
  const refused = me.data === null || (me.error instanceof ApiError && me.error.status === 401);
  if (refused) return <SignIn note={ticket.problem} />;
  if (me.error) {
    return (
      <main className="signin" id="main">
        <h1 className="sr-only">blixt</h1>
        <Problem error={me.error} onRetry={() => void me.refetch()} />
      </main>
    );
  }
  return <Splash what="console" />;
}

function Splash({ what }: { what: string }) {
  return (
    <main className="signin">
      <h1 className="sr-only">blixt</h1>
      <Loading what={what} />
    </main>
  );
}

/** Uses a one-time sign-in link (/?ticket=...) once, and takes the ticket out of the address. */
function useTicket(): { pending: boolean; problem: unknown } {
  const [params, setParams] = useSearchParams();
  const ticket = params.get("ticket");
  const [problem, setProblem] = useState<unknown>(null);
  const client = useQueryClient();
  useEffect(() => {
    if (!ticket) return;
    redeem(ticket)
      .then(() => client.invalidateQueries({ queryKey: keys.me }))
      .catch(setProblem)
      .finally(() => setParams((old) => (old.delete("ticket"), old), { replace: true }));
  }, [ticket, client, setParams]);
  return { pending: ticket !== null, problem };
}

const redeemed = new Map<string, Promise<unknown>>();

/** A ticket works once, and React may run an effect twice. */
function redeem(ticket: string): Promise<unknown> {
  const known = redeemed.get(ticket) ?? signIn({ ticket });
  redeemed.set(ticket, known);
  return known;
}

function Signed({ me }: { me: WhoAmI }) {
  const home = lastTeamspace(me);
  if (!home) return <NoTeamspace user={me.user.name} />;
  return (
    <Suspense fallback={<Splash what="page" />}>
      <Routes>
        <Route path="/" element={<Navigate to={`/t/${home}`} replace />} />
        <Route path="/t/:ts" element={<Shell me={me} />}>
          <Route index element={<Home />} />
          <Route path="studios" element={<Studios />} />
          <Route path="studios/:name" element={<Studio />} />
          <Route path="jobs" element={<Jobs />} />
          <Route path="jobs/:name" element={<Job />} />
          <Route path="experiments" element={<Experiments />} />
          <Route path="experiments/:name" element={<Experiment />} />
          <Route path="models" element={<Models />} />
          <Route path="models/:name" element={<Model />} />
          <Route path="deployments" element={<Deployments />} />
          <Route path="deployments/:name" element={<Deployment />} />
          <Route path="secrets" element={<Secrets />} />
          <Route path="billing" element={<Billing />} />
          <Route path="members" element={<Members me={me} />} />
          <Route path="*" element={<NotFound />} />
        </Route>
        <Route path="*" element={<Navigate to={`/t/${home}`} replace />} />
      </Routes>
    </Suspense>
  );
}

function lastTeamspace(me: WhoAmI): string | undefined {
  const last = localStorage.getItem("blixt-teamspace");
  return (me.teamspaces.find((teamspace) => teamspace.name === last) ?? me.teamspaces[0])?.name;
}

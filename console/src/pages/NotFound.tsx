import { Link } from "react-router";
import { Page } from "@/components/Page";
import { useTs } from "@/lib/hooks";

export function NotFound() {
  const ts = useTs();
  return (
    <Page title="Nothing here">
      <p>
        No page of the console has this address. <Link to={`/t/${ts}`}>Go to Home</Link>
      </p>
    </Page>
  );
}

/** An address of a teamspace that does not exist or is not ours to see. */
export function NotHere({ teamspace }: { teamspace: string }) {
  return (
    <main className="signin" id="main">
      <div className="signin-card">
        <h1>No teamspace {teamspace}</h1>
        <p>It does not exist, or you are not a member of it. An owner of it can add you under Members.</p>
        <Link to="/">Go to my teamspace</Link>
      </div>
    </main>
  );
}

import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useState } from "react";
import { signIn, signOut } from "@/api/actions";
import { keys } from "@/api/keys";
import { Button } from "@/components/Button";
import { Command } from "@/components/Copy";
import { TextField } from "@/components/Field";
import { NewTeamspace } from "@/components/NewTeamspace";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/action";
import { Mark } from "@/components/icons";

/** Sign in with a token; `note` is what was wrong with a sign-in link. */
export function SignIn({ note }: { note: unknown }) {
  const [token, setToken] = useState("");
  const client = useQueryClient();
  const { run, busy, problem } = useAction({ quiet: true });
  useEffect(() => {
    document.title = "Sign in · blixt";
  }, []);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void run(async () => {
      await signIn({ token: token.trim() });
      // Whoever was signed in before may have seen more.
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== keys.me[0] });
      await client.invalidateQueries({ queryKey: keys.me });
    });
  };
  return (
    <main className="signin" id="main">
      <div className="signin-card">
        <div className="brand">
          <Mark />
          <span>blixt</span>
        </div>
        <h1>Sign in</h1>
        <form onSubmit={submit} className="form">
          <TextField
            label="Token"
            type="password"
            value={token}
            required
            autoFocus
            autoComplete="current-password"
            onChange={(event) => setToken(event.target.value)}
          />
          <Problem error={problem ?? note} />
          <Button type="submit" look="primary" busy={busy}>
            Sign in
          </Button>
        </form>
        <div className="signin-help">
          <p>No token at hand? On the machine where the cloud runs, this prints a link that signs you in:</p>
          <Command>blixt console</Command>
          <p>Somebody else's cloud? Its owner adds you under Members and hands you a token.</p>
        </div>
      </div>
    </main>
  );
}

/** Signed in, but a member of nothing yet. */
export function NoTeamspace({ user }: { user: string }) {
  const [open, setOpen] = useState(false);
  const client = useQueryClient();
  const { run } = useAction();
  return (
    <main className="signin" id="main">
      <div className="signin-card">
        <h1>Welcome, {user}</h1>
        <p>You are not a member of any teamspace yet. Ask an owner to add you, or make your own.</p>
        <div className="row">
          <Button look="primary" onClick={() => setOpen(true)}>
            New teamspace
          </Button>
          <Button onClick={() => void run(() => signOut().then(() => client.setQueryData(keys.me, null)))}>
            Sign out
          </Button>
        </div>
        {open ? <NewTeamspace onClose={() => setOpen(false)} /> : null}
      </div>
    </main>
  );
}

import { Button } from "@/components/Button";
import { Snippet } from "@/components/Copy";
import { Dialog } from "@/components/Dialog";

/** A secret's only appearance. */
export function ShowToken({
  title,
  token,
  who,
  onClose,
}: {
  title: string;
  token: string;
  who: string;
  onClose: () => void;
}) {
  return (
    <Dialog title={title} onClose={onClose}>
      <div className="dialog-body">
        <p>
          This is shown once and never again. Hand it to <b>{who}</b> over a safe channel.
        </p>
        <Snippet label="token">{token}</Snippet>
        <Snippet label="sign-in command, which asks for the token">{`blixt login ${location.origin}`}</Snippet>
      </div>
      <footer className="dialog-foot">
        <Button look="primary" onClick={onClose}>
          I have kept it
        </Button>
      </footer>
    </Dialog>
  );
}

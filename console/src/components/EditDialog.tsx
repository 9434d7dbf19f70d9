import { type ReactNode, useState } from "react";
import { fetchOne, replace } from "@/api/actions";
import type { Kinds, Plural } from "@/api/types";
import { FormDialog } from "./FormDialog";
import { Conflict, isConflict } from "./Problem";

interface EditDialogProps<P extends Plural> {
  ts: string;
  plural: P;
  object: Kinds[P];
  onClose: () => void;
  children: (spec: Kinds[P]["spec"], change: (part: Partial<Kinds[P]["spec"]>) => void) => ReactNode;
}

/**
 * Edits a spec as it was when the dialog opened. If somebody else saves first, the server's 409 is told in
 * words, and their version can be loaded into the form.
 */
export function EditDialog<P extends Plural>({ ts, plural, object, onClose, children }: EditDialogProps<P>) {
  const [base, setBase] = useState(object);
  const [spec, setSpec] = useState<Kinds[P]["spec"]>(object.spec);
  const [round, setRound] = useState(0);
  const reload = async () => {
    const theirs = await fetchOne(ts, plural, object.name);
    setBase(theirs);
    setSpec(theirs.spec);
    setRound((n) => n + 1);
  };
  return (
    <FormDialog
      key={round}
      title={`Edit ${object.name}`}
      submit="Save changes"
      done={`Saved ${object.name}.`}
      onClose={onClose}
      onSubmit={() => replace(ts, plural, base, spec)}
      onProblem={(error) =>
        isConflict(error) ? <Conflict what={object.name} onReload={() => void reload()} /> : null
      }
    >
      {children(spec, (part) => setSpec((old) => ({ ...old, ...part })))}
    </FormDialog>
  );
}

import {
  type InputHTMLAttributes,
  type ReactNode,
  type SelectHTMLAttributes,
  type TextareaHTMLAttributes,
  useId,
} from "react";

interface Common {
  label: ReactNode;
  hint?: ReactNode;
  problem?: string | null;
}

/** The frame around every input: label above, hint or problem below, tied together for screen readers. */
function Frame(props: Common & { id: string; wide?: boolean; children: ReactNode }) {
  return (
    <div className={`field ${props.problem ? "field-bad" : ""}`}>
      <label htmlFor={props.id}>{props.label}</label>
      {props.children}
      {props.problem ? (
        <p className="field-problem" id={`${props.id}-note`}>
          {props.problem}
        </p>
      ) : props.hint ? (
        <p className="field-hint" id={`${props.id}-note`}>
          {props.hint}
        </p>
      ) : null}
    </div>
  );
}

function describe(id: string, { hint, problem }: Common) {
  return {
    "aria-describedby": hint || problem ? `${id}-note` : undefined,
    "aria-invalid": problem ? true : undefined,
  };
}

export function TextField({ label, hint, problem, ...rest }: Common & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  const common = { label, hint, problem };
  return (
    <Frame id={id} {...common}>
      <input id={id} autoComplete="off" spellCheck={false} {...describe(id, common)} {...rest} />
    </Frame>
  );
}

export function TextArea({
  label,
  hint,
  problem,
  ...rest
}: Common & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const id = useId();
  const common = { label, hint, problem };
  return (
    <Frame id={id} {...common}>
      <textarea id={id} spellCheck={false} rows={3} {...describe(id, common)} {...rest} />
    </Frame>
  );
}

export function SelectField({
  label,
  hint,
  problem,
  ...rest
}: Common & SelectHTMLAttributes<HTMLSelectElement>) {
  const id = useId();
  const common = { label, hint, problem };
  return (
    <Frame id={id} {...common}>
      <select id={id} {...describe(id, common)} {...rest} />
    </Frame>
  );
}

export function CheckField({ label, hint, ...rest }: Common & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <div className="field field-check">
      <input id={id} type="checkbox" aria-describedby={hint ? `${id}-note` : undefined} {...rest} />
      <label htmlFor={id}>{label}</label>
      {hint ? (
        <p className="field-hint" id={`${id}-note`}>
          {hint}
        </p>
      ) : null}
    </div>
  );
}
